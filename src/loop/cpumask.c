#include "loop/cpumask.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static int not_a_mask(const char *text, struct err *err)
{
	return err_set(err, -EINVAL,
	        "cpumask '%.100s' is neither a hexadecimal mask such as 0x3 nor a list such as "
	        "[0,2-4]",
	        text);
}

static int too_high(const char *text, struct err *err)
{
	return err_set(
	        err, -EINVAL, "cpumask '%.100s' names a CPU above %d", text, CPU_SETSIZE - 1);
}

/* The decimal number at *p, -EINVAL if there is none, -ERANGE if no CPU has it. */
static int parse_cpu(const char **p)
{
	int cpu = 0;

	if (!isdigit((unsigned char)**p))
		return -EINVAL;
	for (; isdigit((unsigned char)**p); (*p)++) {
		cpu = cpu * 10 + (**p - '0');
		if (cpu >= CPU_SETSIZE)
			return -ERANGE;
	}
	return cpu;
}

static int parse_list(const char *text, cpu_set_t *out, struct err *err)
{
	const char *p = text;

	do {
		int first, last;

		p++; /* the bracket or comma */
		first = last = parse_cpu(&p);
		if (first >= 0 && *p == '-') {
			p++;
			last = parse_cpu(&p);
		}
		if (first == -ERANGE || last == -ERANGE)
			return too_high(text, err);
		if (first < 0 || last < first)
			return not_a_mask(text, err);
		for (int cpu = first; cpu <= last; cpu++)
			CPU_SET((unsigned)cpu, out);
	} while (*p == ',');
	if (strcmp(p, "]") != 0)
		return not_a_mask(text, err);
	return 0;
}

static int parse_hex(const char *text, cpu_set_t *out, struct err *err)
{
	const char *first = text;
	int cpu = 0;

	if (first[0] == '0' && (first[1] == 'x' || first[1] == 'X'))
		first += 2;
	if (*first == '\0')
		return not_a_mask(text, err);
	for (const char *p = first + strlen(first); p-- > first; cpu += 4) {
		int digit;

		if (!isxdigit((unsigned char)*p))
			return not_a_mask(text, err);
		digit = isdigit((unsigned char)*p) ? *p - '0'
		                                   : tolower((unsigned char)*p) - 'a' + 10;
		for (int bit = 0; bit < 4; bit++) {
			if (!(digit & (1 << bit)))
				continue;
			if (cpu + bit >= CPU_SETSIZE)
				return too_high(text, err);
			CPU_SET((unsigned)(cpu + bit), out);
		}
	}
	return 0;
}

int cpumask_parse(const char *text, cpu_set_t *out, struct err *err)
{
	int rc;

	CPU_ZERO(out);
	rc = text[0] == '[' ? parse_list(text, out, err) : parse_hex(text, out, err);
	if (rc < 0)
		return rc;
	if (CPU_COUNT(out) == 0)
		return err_set(err, -EINVAL, "cpumask '%.100s' names no CPU", text);
	return 0;
}
