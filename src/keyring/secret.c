/* secret.c: pages that are locked, not dumped, and wiped. */
#include "keyring/secret.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/list.h"

/* At the head of the first page. */
struct secret {
	struct list link;
	size_t bytes, mapped_bytes;
};

#define HEAD_BYTES CACHE_LINE_BYTES
_Static_assert(sizeof(struct secret) <= HEAD_BYTES, "the head has its place");

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list secrets = LIST_INIT(secrets);

static void *bytes_of(struct secret *s)
{
	return (uint8_t *)s + HEAD_BYTES;
}

static void no_memory(size_t bytes, struct err *err)
{
	int cause = errno;
	struct rlimit limit = {0};

	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		err_set(err, -ENOMEM,
		        "%zu bytes can't be locked in memory for a key: %s; the limit is %llu "
		        "bytes: raise it (LimitMEMLOCK= of the service, or ulimit -l)",
		        bytes, errno_text(cause), (unsigned long long)limit.rlim_cur);
	else
		err_set(err, -ENOMEM, "%zu bytes can't be locked in memory for a key: %s", bytes,
		        errno_text(cause));
}

void *secret_alloc(size_t bytes, struct err *err)
{
	size_t mapped_bytes =
	        align_up_u64(HEAD_BYTES + (uint64_t)bytes, (uint64_t)sysconf(_SC_PAGESIZE));
	struct secret *s = mmap(
	        NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED) {
		no_memory(bytes, err);
		return NULL;
	}
	if (mlock(s, mapped_bytes) != 0 || madvise(s, mapped_bytes, MADV_DONTDUMP) != 0) {
		no_memory(bytes, err);
		munmap(s, mapped_bytes);
		return NULL;
	}
	s->bytes = bytes;
	s->mapped_bytes = mapped_bytes;
	list_init(&s->link);
	pthread_mutex_lock(&mutex);
	list_push_back(&secrets, &s->link);
	pthread_mutex_unlock(&mutex);
	return bytes_of(s);
}

void secret_free(void *secret)
{
	struct secret *s;
	size_t mapped_bytes;

	if (!secret)
		return;
	s = (struct secret *)(void *)((uint8_t *)secret - HEAD_BYTES);
	mapped_bytes = s->mapped_bytes;
	pthread_mutex_lock(&mutex);
	list_remove(&s->link);
	pthread_mutex_unlock(&mutex);
	secret_wipe(s, mapped_bytes);
	munmap(s, mapped_bytes);
}

size_t secret_bytes(const void *secret)
{
	struct secret *s;
	size_t bytes = 0;

	pthread_mutex_lock(&mutex);
	list_for_each (s, &secrets, link) {
		if (bytes_of(s) == secret)
			bytes = s->bytes;
	}
	pthread_mutex_unlock(&mutex);
	return bytes;
}

void secret_wipe(void *bytes, size_t len)
{
	explicit_bzero(bytes, len);
}
