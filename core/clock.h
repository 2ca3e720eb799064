#ifndef CLOCK_H
#define CLOCK_H

/* Replace fd with a timer that becomes readable when the clock is set. The caller owns the number fd
 * already, so no signal handler of Python can run between creating the timer and owning it. Returns 0
 * or a negated errno. */
int watch_clock(int fd);

#endif
