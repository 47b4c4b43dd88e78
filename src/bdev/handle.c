/*
 * handle.c: holders of a bdev: targets and jobs.
 */
#include <errno.h>

#include "bdev/control.h"

int bdev_open(struct bdev *bdev, bool write, const struct bdev_holder_ops *ops, const char *holder,
        void *arg, struct bdev_handle **out, struct err *err)
{
	int rc;

	BELLOWS_ASSERT(loop_is_control());
	BELLOWS_ASSERT(ops->resized && ops->removed);
	*out = NULL;
	if (bdev->state != BDEV_ONLINE)
		return err_set(err, -ENODEV, "'%s' is being removed", bdev->name);
	if (write) {
		rc = graph_may_write(bdev, ops->module, err);
		if (rc != 0)
			return rc;
		if (bdev->geometry.read_only)
			return err_set(err, -EROFS, "'%s' is read-only", bdev->name);
	}
	struct bdev_handle *handle = xcalloc(1, sizeof(*handle));

	handle->bdev = bdev;
	handle->write = write;
	handle->ops = ops;
	handle->holder = xstrdup(holder);
	handle->arg = arg;
	handle->known_blocks = bdev->geometry.num_blocks;
	list_init(&handle->link);
	list_push_back(&bdev->graph->handles, &handle->link);
	*out = handle;
	return 0;
}

void bdev_close(struct bdev_handle *handle)
{
	struct bdev *bdev = handle->bdev;

	BELLOWS_ASSERT(loop_is_control());
	tell_handle_closed(handle);
	list_remove(&handle->link);
	free(handle->holder);
	free(handle);
	removal_poke(bdev);
}

struct bdev *bdev_handle_bdev(const struct bdev_handle *handle)
{
	return handle->bdev;
}

void *bdev_handle_arg(const struct bdev_handle *handle)
{
	return handle->arg;
}

const char *bdev_holder(const struct bdev *bdev, unsigned i)
{
	const struct bdev_handle *handle;

	BELLOWS_ASSERT(loop_is_control());
	list_for_each (handle, &bdev->graph->handles, link) {
		if (i-- == 0)
			return handle->holder;
	}
	return NULL;
}
