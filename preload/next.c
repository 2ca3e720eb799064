#define _GNU_SOURCE
#include "next.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>

static const char *const names[] = {
#define NAME(name) #name,
    FUNCTIONS(NAME)
};

static void *_Atomic functions[NEXT_COUNT];

static void *find(enum next_function function)
{
    void *found = dlsym(RTLD_NEXT, names[function]);
    atomic_store_explicit(&functions[function], found, memory_order_release);
    return found;
}

/* Before any signal handler: dlsym is not safe there. */
__attribute__((constructor)) static void find_all(void)
{
    for (int function = 0; function < NEXT_COUNT; function++)
        find(function);
}

void *next_function(enum next_function function)
{
    /* Constructors of other libraries may call this earlier. */
    void *found = atomic_load_explicit(&functions[function], memory_order_acquire);
    return found ? found : find(function);
}
