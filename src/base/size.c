/* Sizes in bytes as people write them. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

#define FRACTION_DIGITS_MAX 18 /* 10^18 x 2^50 fits into 128 bits */

static const char size_units[] = "KMGTPE";

/* The unit's number of bits; *text moves behind it. Returns -EINVAL for what is no unit. */
static int parse_unit(const char **text)
{
	static const char parsed_units[] = "KMGTP";
	const char *p = *text, *unit;
	int shift = 0;

	if (*p == ' ')
		p++;
	if (*p == '\0')
		return p == *text ? 0 : -EINVAL;
	unit = strchr(parsed_units, toupper((unsigned char)*p));
	if (unit) {
		shift = 10 * (int)(unit - parsed_units + 1);
		p++;
		if (*p == 'i') {
			p++;
			if (toupper((unsigned char)*p) != 'B')
				return -EINVAL;
		}
	}
	if (toupper((unsigned char)*p) == 'B')
		p++;
	*text = p;
	return shift;
}

int parse_size_bytes(const char *text, uint64_t *bytes_out)
{
	uint64_t whole = 0, fraction = 0, fraction_scale = 1;
	bool has_fraction = false, too_large = false;
	unsigned __int128 bytes;
	int shift;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++) {
		if (__builtin_mul_overflow(whole, 10U, &whole) ||
		        __builtin_add_overflow(whole, (unsigned)(*text - '0'), &whole))
			too_large = true;
	}
	if (*text == '.') {
		has_fraction = true;
		text++;
		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		for (int digits = 0; isdigit((unsigned char)*text); text++) {
			if (++digits > FRACTION_DIGITS_MAX)
				return -EINVAL;
			fraction = fraction * 10 + (unsigned)(*text - '0');
			fraction_scale *= 10;
		}
	}
	shift = parse_unit(&text);
	if (shift < 0 || *text != '\0' || (has_fraction && shift == 0))
		return -EINVAL;
	bytes = ((unsigned __int128)whole << shift) +
	        ((unsigned __int128)fraction << shift) / fraction_scale;
	if (too_large || bytes > UINT64_MAX)
		return -ERANGE;
	*bytes_out = (uint64_t)bytes;
	return 0;
}

const char *format_size_bytes(char *buf, size_t size, uint64_t bytes)
{
	int unit = 0; /* 0: bytes, 1: KiB ... */
	uint64_t whole, rest;

	while (unit < (int)sizeof(size_units) - 1 && bytes >> (10 * (unit + 1)))
		unit++;
	if (unit == 0) {
		snprintf(buf, size, "%llu B", (unsigned long long)bytes);
		return buf;
	}
	whole = bytes >> (10 * unit);
	rest = bytes & ((1ULL << (10 * unit)) - 1);
	/* Rounded down, so that no text promises more than there is. */
	if (rest)
		snprintf(buf, size, "%llu.%u %ciB", (unsigned long long)whole,
		        (unsigned)(((unsigned __int128)rest * 10) >> (10 * unit)),
		        size_units[unit - 1]);
	else
		snprintf(buf, size, "%llu %ciB", (unsigned long long)whole, size_units[unit - 1]);
	return buf;
}
