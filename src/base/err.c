#include "base/err.h"

#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list args;

	BELLOWS_ASSERT(code != 0);
	if (!err)
		return code;
	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return code;
}

void err_prefix(struct err *err, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;
	size_t len;

	if (!err || err->code == 0)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	len = strlen(text);
	/* What does not fit is cut off at the end. */
	if (str_copy(text + len, sizeof(text) - len, ": "))
		str_copy(text + len + 2, sizeof(text) - len - 2, err->text);
	memcpy(err->text, text, sizeof(text));
}

const char *errno_text(int errnum)
{
	/* Unsigned, since -INT_MIN is no int. */
	unsigned positive = errnum < 0 ? -(unsigned)errnum : (unsigned)errnum;
	const char *text = positive <= INT16_MAX ? strerrordesc_np((int)positive) : NULL;

	return text ? text : "Unknown error";
}
