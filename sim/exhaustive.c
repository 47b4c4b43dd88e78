#include "sim/runner.h"

int exhaustive_run(bool quick)
{
	(void)quick;
	return 2;
}
