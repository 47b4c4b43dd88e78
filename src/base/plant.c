#include "base/plant.h"

#if defined(BELLOWS_CHECK) && BELLOWS_CHECK
unsigned bellows_plant = PLANT_NONE;
#endif
