/* Raise a signal before the Nth opcode of the code under test.
 *
 * Load it by ctypes.PyDLL, in the main thread. A trace function in Python would not do: the
 * signal's handler would run inside it. This one only counts and raises the signal; the handler
 * runs where the interpreter checks for signals next, as for a signal from another process.
 */
#include <Python.h>
#include <signal.h>
#include <string.h>

static struct {
    Py_tracefunc function;
    PyObject *object;
} before;

static const char *inside, *outside;
static long opcodes, target;
static int armed, deferred;

static int starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Return where a frame's code is from: 1: under test; -1: must not be struck, nor what it calls;
 * 0: other code. */
static int origin(PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    const char *file = PyUnicode_AsUTF8(code->co_filename);
    Py_DECREF(code);
    if (file == NULL)
        PyErr_Clear();
    if (file == NULL || !starts_with(file, inside))
        return 0;
    return starts_with(file, outside) ? -1 : 1;
}

static int is_called_from_outside(PyFrameObject *frame)
{
    int found = 0;
    PyFrameObject *caller = PyFrame_GetBack(frame);
    while (caller != NULL && !found) {
        found = origin(caller) < 0;
        PyFrameObject *next = PyFrame_GetBack(caller);
        Py_DECREF(caller);
        caller = next;
    }
    Py_XDECREF(caller);
    return found;
}

/* Trace a frame's opcodes. Python 3.13 accepts this only while the frame has a trace function. */
static int trace_opcodes(PyObject *frame)
{
    return PyObject_SetAttrString(frame, "f_trace", Py_True) < 0
           || PyObject_SetAttrString(frame, "f_trace_opcodes", Py_True) < 0
           || PyObject_SetAttrString(frame, "f_trace", Py_None) < 0 ? -1 : 0;
}

static int trace(PyObject *object, PyFrameObject *frame, int event, PyObject *argument)
{
    (void)object, (void)argument;
    if (event == PyTrace_RETURN && deferred && origin(frame) < 0
        && !is_called_from_outside(frame)) {
        deferred = 0;
        raise(SIGUSR1);
    }
    /* A generator into which an exception is thrown goes on without a call event. */
    if (event == PyTrace_CALL || event == PyTrace_EXCEPTION) {
        if (origin(frame) <= 0 || is_called_from_outside(frame))
            return 0;
        if (trace_opcodes((PyObject *)frame) < 0)
            return -1;
    }
    else if (event != PyTrace_OPCODE) {
        return 0;
    }
    if (++opcodes == target)
        raise(SIGUSR1);
    return 0;
}

/* Raise SIGUSR1 before the nth opcode of code whose file name starts with one prefix but not with
 * the other. Code that is called from a file with the other prefix does not count. */
int arm(long nth, const char *prefix, const char *but_not)
{
    PyThreadState *state = PyThreadState_Get();
    before.function = state->c_tracefunc;
    before.object = Py_XNewRef(state->c_traceobj);
    inside = prefix;
    outside = but_not;
    opcodes = 0;
    target = nth;
    deferred = 0;
    /* Python 3.12 prepares for opcodes only if a frame has asked for them before. */
    PyObject *frame = (PyObject *)PyEval_GetFrame();
    if (PyObject_SetAttrString(frame, "f_trace_opcodes", Py_True) < 0
        || PyObject_SetAttrString(frame, "f_trace_opcodes", Py_False) < 0)
        return -1;
    armed = 1;
    PyEval_SetTrace(trace, NULL);
    return 0;
}

/* Raise the signal again at the end of the call that the code under test made to other code. */
void defer(void)
{
    deferred = 1;
}

/* Restore the previous trace function, if that has not been done; return how many opcodes were
 * counted. */
long disarm(void)
{
    if (armed) {
        armed = 0;
        PyEval_SetTrace(before.function, before.object);
        Py_CLEAR(before.object);
    }
    return opcodes;
}
