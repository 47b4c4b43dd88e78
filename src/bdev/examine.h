/* examine.h: who says that a bdev is not to be looked at yet. On the control loop. */
#pragma once

#include "bdev/bdev.h"

/*
 * While something is set, bdevs of which it says true when they appear are not examined: somebody
 * is about to make a bdev on them, whose own content may look like theirs. NULL: what was left out
 * and is not claimed by now is examined.
 */
void bdev_examine_but(bool (*is_spoken_for)(const struct bdev *bdev));
