/*
 * Watches and disturbs what a process does to the files below one directory, from outside: loaded with LD_PRELOAD, it
 * stands between the program and the C library. Linux, little-endian hosts, glibc.
 *
 *   cc -O2 -fPIC -shared -o storage.so storage.c -ldl
 *
 * RAILGAUGE_SHIM_DIR      absolute path; only files below it are watched and disturbed. Unset: nothing is.
 * RAILGAUGE_SHIM_LEDGER   file to which a record of each operation is appended; outside DIR. Unset: none is written.
 * RAILGAUGE_SHIM_FAULTS   faults, as words `name=permille`:
 *                           open      a new file cannot be made: ENOSPC
 *                           write     nothing is written: ENOSPC
 *                           short     only the first half is written, without an error
 *                           io        nothing is written: EIO
 *                           sync      fsync and fdatasync fail: EIO
 *                           truncate, rename, unlink  fail: EIO
 * RAILGAUGE_SHIM_CONTROL  file with the same words, read before every operation: while it is there it replaces FAULTS, so that faults
 *                         start and stop while the program runs (make it by renaming: it is read whole).
 * RAILGAUGE_SHIM_SEED     number from which the faults are drawn, together with the process id. 1 when unset.
 *
 * The ledger is a row of records, each appended with one write:
 *   "RGLG" u32 length  u32 FNV-1a of what follows  what follows, `length` octets:
 *   u8 kind, u32 pid, u32 tid, u64 offset, u32 octets in name, name (relative to DIR), rest
 * in the order of the host (little-endian). Kinds:
 *   'w' is about to write the rest at offset      'W' has written `offset` octets of the 'w' before of this thread
 *   's' is about to sync                          'S' has synced a file, which has `offset` octets
 *   'T' has cut or grown a file to offset         'U' has unlinked it
 *   'R' has renamed it to the rest                'F' a fault was put in; the rest is its name
 *   'C' has made the file, or emptied it at opening
 * A record that announces ('w', 's') and none that confirms: the process was killed between, and either may be true.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The real function behind a name, looked up once. */
#define REAL(name)                                                     \
    ({                                                                 \
        static __typeof__(&name) found;                                \
        if (found == NULL) found = (__typeof__(&name))real_symbol(#name); \
        found;                                                         \
    })

static void *real_symbol(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort();
    return found;
}

/* The part of `path` below the watched directory; NULL when it lies elsewhere. */
static const char *below(const char *path) {
    const char *directory = getenv("RAILGAUGE_SHIM_DIR");
    if (directory == NULL || path == NULL) return NULL;
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/') length--;
    if (strncmp(path, directory, length) != 0 || path[length] != '/') return NULL;
    return path + length + 1;
}

/* What an open file is called, below the watched directory. `buffer` has PATH_MAX octets. */
static const char *name_of_fd(int fd, char *buffer) {
    if (getenv("RAILGAUGE_SHIM_DIR") == NULL) return NULL;
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length <= 0) return NULL;
    buffer[length] = 0;
    return below(buffer);
}

/* The same for a path, which may be relative to an open directory. */
static const char *name_of_path(int at, const char *path, char *buffer) {
    if (getenv("RAILGAUGE_SHIM_DIR") == NULL || path == NULL) return NULL;
    if (path[0] == '/') return below(path);
    char link[40], directory[PATH_MAX];
    if (at == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, directory, sizeof directory - 1);
    if (length <= 0) return NULL;
    directory[length] = 0;
    if (snprintf(buffer, PATH_MAX, "%s/%s", directory, path) >= PATH_MAX) return NULL;
    return below(buffer);
}

static uint32_t fnv(uint32_t hash, const void *octets, size_t length) {
    const unsigned char *octet = octets;
    for (size_t i = 0; i < length; i++) hash = (hash ^ octet[i]) * 16777619u;
    return hash;
}

/* Appends one record. A ledger that cannot be kept proves nothing, so the program ends. */
static void record(char kind, const char *name, uint64_t offset, const struct iovec *parts, int count) {
    const char *ledger = getenv("RAILGAUGE_SHIM_LEDGER");
    if (ledger == NULL) return;
    int keep = errno;
    uint32_t pid = (uint32_t)getpid(), tid = (uint32_t)syscall(SYS_gettid);
    uint32_t name_length = (uint32_t)strlen(name);
    size_t rest = 0;
    for (int i = 0; i < count; i++) rest += parts[i].iov_len;
    size_t length = 21 + name_length + rest;
    char *whole = malloc(12 + length), *to = whole;
    if (whole == NULL || length > UINT32_MAX) abort();
    uint32_t length32 = (uint32_t)length;
    memcpy(to, "RGLG", 4), memcpy(to + 4, &length32, 4), to += 12;
    *to++ = kind;
    memcpy(to, &pid, 4), memcpy(to + 4, &tid, 4), memcpy(to + 8, &offset, 8);
    memcpy(to + 16, &name_length, 4), to += 20;
    memcpy(to, name, name_length), to += name_length;
    for (int i = 0; i < count; i++) {
        memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    uint32_t sum = fnv(2166136261u, whole + 12, length);
    memcpy(whole + 8, &sum, 4);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, ledger, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || syscall(SYS_write, fd, whole, 12 + length) != (long)(12 + length)) abort();
    syscall(SYS_close, fd);
    free(whole);
    errno = keep;
}

static uint64_t draw(void) {
    static uint64_t counter;
    const char *seed = getenv("RAILGAUGE_SHIM_SEED");
    uint64_t state = (seed != NULL ? strtoull(seed, NULL, 10) : 1) * 0x9e3779b97f4a7c15u;
    state += (uint64_t)getpid() * 0xbf58476d1ce4e5b9u;
    state += __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED) * 0x9e3779b97f4a7c15u;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
    return state ^ (state >> 31);
}

/* Whether the fault of this kind is due now; if so, it stands in the ledger. */
static int fault(const char *kind, const char *name) {
    char words[512];
    const char *control = getenv("RAILGAUGE_SHIM_CONTROL"), *faults = getenv("RAILGAUGE_SHIM_FAULTS");
    int keep = errno;
    int fd = control == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        long length = syscall(SYS_read, fd, words, sizeof words - 1);
        words[length < 0 ? 0 : length] = 0;
        syscall(SYS_close, fd);
        faults = words;
    }
    errno = keep;
    if (faults == NULL) return 0;
    size_t length = strlen(kind);
    for (const char *word = faults; (word = strstr(word, kind)) != NULL; word += length) {
        int begins = word == faults || strchr(" ,\n\t", word[-1]) != NULL;
        if (!begins || word[length] != '=') continue;
        if (draw() % 1000 >= strtoul(word + length + 1, NULL, 10)) return 0;
        struct iovec rest = {(void *)kind, length};
        record('F', name, 0, &rest, 1);
        return 1;
    }
    return 0;
}

/* Where a plain write would land. */
static uint64_t position(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return (uint64_t)lseek(fd, 0, flags >= 0 && (flags & O_APPEND) ? SEEK_END : SEEK_CUR);
}

/* Gathers what is left of `parts` when only `most` octets may be written; gives the new count. */
static int cut(struct iovec *to, const struct iovec *parts, int count, size_t most) {
    int used = 0;
    for (int i = 0; i < count && most > 0; i++) {
        to[used] = parts[i];
        if (to[used].iov_len > most) to[used].iov_len = most;
        most -= to[used++].iov_len;
    }
    return used;
}

/* Every way of writing: `offset` is -1 for where the file stands. */
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset) {
    char buffer[PATH_MAX];
    const char *name = count > 0 && count <= IOV_MAX ? name_of_fd(fd, buffer) : NULL;
    struct iovec fewer[16];
    if (name != NULL) {
        if (fault("write", name)) return errno = ENOSPC, -1;
        if (fault("io", name)) return errno = EIO, -1;
        size_t whole = 0;
        for (int i = 0; i < count; i++) whole += parts[i].iov_len;
        if (whole > 1 && count <= 16 && fault("short", name)) {
            count = cut(fewer, parts, count, whole / 2);
            parts = fewer;
        }
        record('w', name, offset < 0 ? position(fd) : (uint64_t)offset, parts, count);
    }
    ssize_t written = offset < 0 ? REAL(writev)(fd, parts, count) : REAL(pwritev)(fd, parts, count, offset);
    if (name != NULL) record('W', name, written < 0 ? 0 : (uint64_t)written, NULL, 0);
    return written;
}

ssize_t write(int fd, const void *octets, size_t length) {
    char buffer[PATH_MAX];
    if (name_of_fd(fd, buffer) == NULL) return REAL(write)(fd, octets, length);
    struct iovec part = {(void *)octets, length};
    return write_parts(fd, &part, 1, -1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return write_parts(fd, parts, count, -1);
}

ssize_t pwrite(int fd, const void *octets, size_t length, off_t offset) {
    struct iovec part = {(void *)octets, length};
    return write_parts(fd, &part, 1, offset);
}

ssize_t pwrite64(int fd, const void *octets, size_t length, off64_t offset) {
    return pwrite(fd, octets, length, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    char buffer[PATH_MAX];
    if (name_of_fd(fd, buffer) == NULL) return REAL(pwritev)(fd, parts, count, offset);
    return write_parts(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return pwritev(fd, parts, count, offset);
}

static int sync_with(int (*real)(int), int fd) {
    char buffer[PATH_MAX];
    const char *name = name_of_fd(fd, buffer);
    if (name == NULL) return real(fd);
    if (fault("sync", name)) return errno = EIO, -1;
    record('s', name, 0, NULL, 0);
    int result = real(fd);
    struct stat found;
    if (result == 0 && fstat(fd, &found) == 0) record('S', name, (uint64_t)found.st_size, NULL, 0);
    return result;
}

int fsync(int fd) { return sync_with(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_with(REAL(fdatasync), fd); }

int ftruncate(int fd, off_t length) {
    char buffer[PATH_MAX];
    const char *name = name_of_fd(fd, buffer);
    if (name != NULL && fault("truncate", name)) return errno = EIO, -1;
    int result = REAL(ftruncate)(fd, length);
    if (name != NULL && result == 0) record('T', name, (uint64_t)length, NULL, 0);
    return result;
}

int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int unlink_named(int at, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *name = name_of_path(at, path, buffer);
    if (name != NULL && fault("unlink", name)) return errno = EIO, -1;
    int result = REAL(unlinkat)(at, path, flags);
    if (name != NULL && result == 0 && !(flags & AT_REMOVEDIR)) record('U', name, 0, NULL, 0);
    return result;
}

int unlink(const char *path) { return unlink_named(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return unlink_named(at, path, flags); }

int rename(const char *from, const char *to) {
    char buffer[PATH_MAX], other[PATH_MAX];
    const char *name = name_of_path(AT_FDCWD, from, buffer), *target = name_of_path(AT_FDCWD, to, other);
    if (name != NULL && fault("rename", name)) return errno = EIO, -1;
    int result = REAL(rename)(from, to);
    if (name != NULL && target != NULL && result == 0) {
        struct iovec rest = {(void *)target, strlen(target)};
        record('R', name, 0, &rest, 1);
    }
    return result;
}

/* Every way of opening. */
static int open_at(int at, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = (flags & (O_CREAT | O_TRUNC)) ? name_of_path(at, path, buffer) : NULL;
    int is_new = 0;
    if (name != NULL) {
        struct stat found;
        is_new = (flags & O_CREAT) && fstatat(at, path, &found, 0) != 0;
        if (is_new && fault("open", name)) return errno = ENOSPC, -1;
    }
    int fd = REAL(openat)(at, path, flags, mode);
    if (name != NULL && fd >= 0 && (is_new || (flags & O_TRUNC))) record('C', name, 0, NULL, 0);
    return fd;
}

#define MODE_OF(flags, last)                       \
    mode_t mode = 0;                               \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list more;                              \
        va_start(more, last);                      \
        mode = va_arg(more, mode_t);               \
        va_end(more);                              \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    return open_at(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    return open_at(at, path, flags | O_LARGEFILE, mode);
}

int creat(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode) { return creat(path, mode); }
