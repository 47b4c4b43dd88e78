/*
 * pass.c: what a module does that says nothing about requests: it hands them to its base.
 */
#include "bdev/core.h"

void bdev_pass_submit(struct bio *bio)
{
	bio_forward(bio, bio_bdev(bio)->bases[0], bio_offset(bio), NULL);
}
