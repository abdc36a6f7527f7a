/* A bad disk, a bad clock and a bad moment, between a program and the C library.

   Preloaded (LD_PRELOAD) into a process. Every call that changes something below a watched folder is
   a touch; `faults_set` says at which of them what happens. `faults_log` writes down all touches
   with their bytes, so that `lost_writes.py` can build what a crash of the machine might leave. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { NOTHING, KILL, HALF, FAIL, SHORT, STOP, JUMP };

static char watched[PATH_MAX];
static int action = NOTHING, code, log_fd = -1;
static long first, span, touches, seconds_jumped;

/* The C library's own function, looked up once. */
#define REAL(name)                                              \
    ({                                                          \
        static __typeof__(&name) found;                         \
        if (!found) found = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
        found;                                                  \
    })

/* From the `at`-th touch below `folder` on, counted from 1, for `count` touches. */
void faults_set(const char *folder, int what, long at, long count, int error, long jump) {
    snprintf(watched, sizeof watched, "%s", folder);
    action = what, first = at, span = count, code = error, touches = 0;
    seconds_jumped = what == JUMP ? jump : 0;
}

void faults_log(const char *folder, int handle) {
    snprintf(watched, sizeof watched, "%s", folder);
    log_fd = handle;
}

long faults_touches(void) { return touches; }

static int is_watched(const char *path) {
    size_t length = strlen(watched);
    return length && !strncmp(path, watched, length) &&
           (path[length] == 0 || path[length] == '/');
}

static const char *path_of(int handle, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, into, PATH_MAX - 1);
    into[length < 0 ? 0 : length] = 0;
    return into;
}

static const char *path_at(int folder, const char *path, char *into) {
    if (path[0] == '/') return path;
    char base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return path;
    } else
        path_of(folder, base);
    if (snprintf(into, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return path;
    return into;
}

/* The error to fail with, or 0. */
static int touched(const char *path) {
    if (!watched[0] || !is_watched(path)) return 0;
    long now = ++touches;
    if (now < first || now >= first + span) return 0;
    if (action == KILL) kill(getpid(), SIGKILL);
    if (action == STOP) kill(getpid(), SIGSTOP);
    return action == FAIL ? code : 0;
}

static int is_now(void) { return touches >= first && touches < first + span; }

static void put(const void *bytes, size_t count) {
    while (count) {
        ssize_t done = syscall(SYS_write, log_fd, bytes, count);
        if (done <= 0) abort();
        bytes = (const char *)bytes + done, count -= done;
    }
}

/* A line of words, and the bytes that it announces. */
static void logged(const char *kind, unsigned long inode, long number, const char *one,
                   const char *other, const void *bytes, size_t count) {
    if (log_fd < 0) return;
    int kept = errno;
    char line[3 * PATH_MAX];
    int length = snprintf(line, sizeof line, "%s\t%lu\t%ld\t%s\t%s\t%zu\n", kind, inode, number,
                          one, other, count);
    put(line, length);
    if (count) put(bytes, count);
    errno = kept;
}

static unsigned long inode_of(int handle) {
    struct stat status;
    return fstat(handle, &status) ? 0 : status.st_ino;
}

#define REFUSE(path)                         \
    do {                                     \
        int error = touched(path);           \
        if (error) return errno = error, -1; \
    } while (0)

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *whole = path_at(folder, path, buffer);
    int writes = flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC);
    int counts = writes && watched[0] && is_watched(whole);
    if (counts) REFUSE(whole);
    int is_new = counts && (flags & O_CREAT) && access(whole, F_OK);
    int handle = syscall(SYS_openat, folder, path, flags | O_LARGEFILE, mode);
    if (counts && handle >= 0 && is_new) logged("create", inode_of(handle), 0, whole, "", 0, 0);
    if (counts && handle >= 0 && (flags & O_TRUNC) && !is_new)
        logged("length", inode_of(handle), 0, whole, "", 0, 0);
    return handle;
}

#define MODE                       \
    mode_t mode = 0;               \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more;              \
        va_start(more, flags);     \
        mode = va_arg(more, int);  \
        va_end(more);              \
    }

int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) {
    MODE return opened(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE return opened(folder, path, flags, mode);
}

static ssize_t written(int handle, const void *bytes, size_t count, off_t at) {
    char path[PATH_MAX] = "";
    int counts = watched[0] && handle > 2 && is_watched(path_of(handle, path));
    if (counts) {
        REFUSE(path);
        if (is_now() && (action == SHORT || action == HALF) && count > 1) count /= 2;
    }
    off_t from = at;
    if (counts && log_fd >= 0 && at < 0) {
        struct stat status;
        int appends = fcntl(handle, F_GETFL) & O_APPEND;
        from = appends && !fstat(handle, &status) ? status.st_size : lseek(handle, 0, SEEK_CUR);
    }
    ssize_t done = at < 0 ? syscall(SYS_write, handle, bytes, count)
                          : syscall(SYS_pwrite64, handle, bytes, count, at);
    if (counts && is_now() && action == HALF) kill(getpid(), SIGKILL);
    if (counts && done > 0) logged("write", inode_of(handle), from, path, "", bytes, done);
    return done;
}

ssize_t write(int handle, const void *bytes, size_t count) {
    return written(handle, bytes, count, -1);
}
ssize_t pwrite(int handle, const void *bytes, size_t count, off_t at) {
    return written(handle, bytes, count, at);
}
ssize_t pwrite64(int handle, const void *bytes, size_t count, off64_t at) {
    return written(handle, bytes, count, at);
}

static int flushed(int handle, long number) {
    char path[PATH_MAX] = "";
    int counts = watched[0] && is_watched(path_of(handle, path));
    if (counts) REFUSE(path);
    int answer = syscall(number, handle);
    if (counts && !answer) logged("sync", inode_of(handle), 0, path, "", 0, 0);
    return answer;
}

int fsync(int handle) { return flushed(handle, SYS_fsync); }
int fdatasync(int handle) { return flushed(handle, SYS_fdatasync); }

static int cut(int handle, off_t length) {
    char path[PATH_MAX] = "";
    int counts = watched[0] && is_watched(path_of(handle, path));
    if (counts) REFUSE(path);
    int answer = syscall(SYS_ftruncate, handle, length);
    if (counts && !answer) logged("length", inode_of(handle), length, path, "", 0, 0);
    return answer;
}

int ftruncate(int handle, off_t length) { return cut(handle, length); }
int ftruncate64(int handle, off64_t length) { return cut(handle, length); }

int rename(const char *from, const char *to) {
    char one[PATH_MAX], other[PATH_MAX];
    const char *whole = path_at(AT_FDCWD, to, other);
    REFUSE(whole);
    int answer = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (watched[0] && !answer && is_watched(whole))
        logged("rename", 0, 0, path_at(AT_FDCWD, from, one), whole, 0, 0);
    return answer;
}

int mkdir(const char *path, mode_t mode) {
    char buffer[PATH_MAX];
    const char *whole = path_at(AT_FDCWD, path, buffer);
    REFUSE(whole);
    int answer = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (watched[0] && !answer && is_watched(whole)) logged("folder", 0, 0, whole, "", 0, 0);
    return answer;
}

static int removed(int folder, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *whole = path_at(folder, path, buffer);
    REFUSE(whole);
    int answer = syscall(SYS_unlinkat, folder, path, flags);
    if (watched[0] && !answer && is_watched(whole)) logged("remove", 0, 0, whole, "", 0, 0);
    return answer;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int folder, const char *path, int flags) { return removed(folder, path, flags); }

int chmod(const char *path, mode_t mode) {
    char buffer[PATH_MAX];
    REFUSE(path_at(AT_FDCWD, path, buffer));
    return syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}

/* The time of day may be set; that which only counts on may not. */
static int has_jumped(void) { return seconds_jumped && touches >= first; }

int clock_gettime(clockid_t which, struct timespec *now) {
    int answer = REAL(clock_gettime)(which, now);
    if (which == CLOCK_REALTIME && has_jumped()) now->tv_sec += seconds_jumped;
    return answer;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    int answer = REAL(gettimeofday)(now, zone);
    if (has_jumped()) now->tv_sec += seconds_jumped;
    return answer;
}
