/* print.c: what goes to the terminal. */

#include <langinfo.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/cli.h"

#define CELL_MAX_BYTES 4096

void cli_print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
}

/* A name or a sentence from elsewhere may hold anything; a terminal would act on it. */
static void defuse(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

void cli_error(const char *fmt, ...)
{
	char text[2048];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	defuse(text);
	fflush(stdout);
	fprintf(stderr, "bellows: %s\n", text);
}

void print_line(const char *text, FILE *out)
{
	autofree char *copy = xstrdup(text);

	defuse(copy);
	fprintf(out, "%s\n", copy);
}

const char *cli_str(const json_t *object, const char *name, const char *missing)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : missing;
}

uint64_t cli_u64(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
}

bool cli_bool(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

bool cli_utf8(const struct cli *cli)
{
	return !cli->ascii && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

unsigned cli_terminal_columns(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
		return 0;
	return size.ws_col;
}

/* Bytes of the longest start of text that takes at most max columns; *columns: how many it takes.
 */
static size_t text_fit(const char *text, size_t max, size_t *columns)
{
	mbstate_t state = {0};
	size_t used = 0, len = strlen(text);

	*columns = 0;
	while (used < len) {
		wchar_t wide;
		size_t bytes = mbrtowc(&wide, text + used, len - used, &state);
		int width = 1;

		if (bytes == 0 || bytes == (size_t)-1 || bytes == (size_t)-2) {
			memset(&state, 0, sizeof(state));
			bytes = 1;
		} else if ((width = wcwidth(wide)) < 0) {
			width = 1;
		}
		if (*columns + (size_t)width > max)
			break;
		*columns += (size_t)width;
		used += bytes;
	}
	return used;
}

size_t text_columns(const char *text)
{
	size_t columns;

	text_fit(text, SIZE_MAX, &columns);
	return columns;
}

/* ---- tables ---------------------------------------------------------------------------------- */

struct table {
	const struct table_column *columns;
	unsigned num_columns;
	size_t num_rows;
	char **cells; /* [num_rows * num_columns] */
};

struct table *table_new(const struct table_column *columns, unsigned num_columns)
{
	struct table *table = xcalloc(1, sizeof(*table));

	table->columns = columns;
	table->num_columns = num_columns;
	return table;
}

void table_row(struct table *table, const char *const *cells)
{
	size_t first = table->num_rows++ * table->num_columns;

	table->cells =
	        xrealloc(table->cells, table->num_rows * table->num_columns * sizeof(char *));
	for (unsigned i = 0; i < table->num_columns; i++) {
		char *cell = xstrdup(cells[i] ? cells[i] : "");

		if (strlen(cell) > CELL_MAX_BYTES)
			cell[CELL_MAX_BYTES] = '\0';
		defuse(cell);
		table->cells[first + i] = cell;
	}
}

/* A row that is one text: it may run across the other columns. */
static bool is_alone(const struct table *table, char *const *cells)
{
	for (unsigned i = 1; i < table->num_columns; i++)
		if (*cells[i])
			return false;
	return true;
}

/* Width of a column; 0 when nothing stands in it. */
static size_t column_width(const struct table *table, unsigned column)
{
	size_t width = 0;

	for (size_t row = 0; row < table->num_rows; row++) {
		char *const *cells = table->cells + row * table->num_columns;

		if (!is_alone(table, cells))
			width = max_u64(width, text_columns(cells[column]));
	}
	return width || column == 0 ? max_u64(width, text_columns(table->columns[column].title))
	                            : 0;
}

static void print_cut(struct cli *cli, const char *text, size_t room, FILE *out)
{
	bool utf8 = cli_utf8(cli);
	size_t columns, dots = utf8 ? 1 : 3;

	if (text_columns(text) <= room)
		fputs(text, out);
	else if (room > dots)
		fprintf(out, "%.*s%s", (int)text_fit(text, room - dots, &columns), text,
		        utf8 ? "\u2026" : "...");
}

static void print_row(struct cli *cli, const struct table *table, const size_t *widths,
        char *const *cells, size_t line, FILE *out)
{
	size_t at = 0, gap = 0;
	bool alone = cells && is_alone(table, cells);

	for (unsigned i = 0; i < table->num_columns; i++) {
		const char *text = cells ? cells[i] : table->columns[i].title;
		size_t columns = text_columns(text), pad = 0;

		if (!widths[i])
			continue;
		if (columns < widths[i])
			pad = widths[i] - columns;
		if (table->columns[i].right) {
			gap += pad;
			pad = 0;
		}
		if (*text) {
			fprintf(out, "%*s", (int)gap, "");
			at += gap;
			gap = 0;
			if (line && (alone || i + 1 == table->num_columns))
				print_cut(cli, text, line > at ? line - at : 0, out);
			else
				fputs(text, out);
			at += columns;
		}
		gap += pad + 2;
	}
	fputc('\n', out);
}

void table_print(struct cli *cli, struct table *table, FILE *out)
{
	autofree size_t *widths = xcalloc(table->num_columns, sizeof(*widths));
	size_t line = out == stdout ? cli_terminal_columns() : 0;

	for (unsigned i = 0; i < table->num_columns; i++)
		widths[i] = column_width(table, i);
	if (out)
		print_row(cli, table, widths, NULL, line, out);
	for (size_t row = 0; out && row < table->num_rows; row++)
		print_row(cli, table, widths, table->cells + row * table->num_columns, line, out);
	for (size_t i = 0; i < table->num_rows * table->num_columns; i++)
		free(table->cells[i]);
	free(table->cells);
	free(table);
}
