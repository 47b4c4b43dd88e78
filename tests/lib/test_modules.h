/*
 * test_modules.h: two modules without methods of their own, to test what is made up for such:
 * "plain", a backend that completes everything, and "through", which leaves everything out.
 */
#pragma once

/* Makes them part of the program that calls it. */
void test_modules_link(void);
