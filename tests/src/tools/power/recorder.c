/* A recorder of disk operations. It is preloaded into a process, and writes one ordered log of what
 * the process and its children do to the files below one folder, of the fsyncs, and of the data
 * that the process has acknowledged.
 *
 * It changes only fsync: no fsync reaches the real disk, and one may fail, hang or lie on request.
 * The Rust code in this folder rebuilds the content after a power loss from the log; `record.rs`
 * reads the records.
 *
 * It does not see writes through mmap (SQLite's -shm, which is not needed after a crash), io_uring,
 * and raw system calls (rustix's fallocate with KEEP_SIZE, which changes no byte and no length). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The replaced function of the C library. It is looked up once, since a signal handler may write. */
#define REAL(name)                                                                     \
    ({                                                                                 \
        static __typeof__(&name) at_##name;                                            \
        if (!at_##name) at_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);        \
        at_##name;                                                                     \
    })

#define HANDLES 65536

struct record {
    uint32_t bytes;      /* Length of the record. */
    uint8_t kind, flag;  /* Kind of the operation, and its result. */
    uint16_t path_bytes; /* Length of the path, which the data follows. */
    uint64_t node, a, b; /* The inode, and two numbers. */
};

/* Memory that all processes on this disk share. */
static struct shared {
    uint32_t holder;  /* The process that writes the log; 0 if none does. */
    uint32_t matched; /* Number of fsyncs so far that the fault may concern. */
    uint64_t syncs;
} *shared;

static int log_fd = -1;
static char root[PATH_MAX], marks[PATH_MAX], hung[PATH_MAX + 8];
static size_t root_bytes;
static dev_t device, marks_device;
static char fault[32], about[256];
static unsigned from, until;
static long sync_micros;
static uint8_t lies, lying[HANDLES];

static const char *given(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

__attribute__((constructor)) static void begin(void) {
    struct stat seen;
    root_bytes = (size_t)snprintf(root, sizeof root, "%s", given("BRIDGE_DISK_ROOT"));
    if (!root_bytes || stat(root, &seen)) return;
    device = seen.st_dev;
    snprintf(marks, sizeof marks, "%s", given("BRIDGE_DISK_MARKS"));
    marks_device = stat(marks, &seen) ? device : seen.st_dev;
    snprintf(hung, sizeof hung, "%s.hung", given("BRIDGE_DISK_SHARED"));
    sync_micros = atol(given("BRIDGE_DISK_SYNC_MICROS"));
    lies = given("BRIDGE_DISK_LIES")[0] != 0;
    /* The fault, the first fsync that has it, the first that has it no more, and a part of the path. */
    if (sscanf(given("BRIDGE_DISK_FAULT"), "%31s %u %u %255s", fault, &from, &until, about) < 4) fault[0] = 0;
    int fd = REAL(open)(given("BRIDGE_DISK_SHARED"), O_RDWR | O_CLOEXEC);
    void *at = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REAL(close)(fd);
    fd = REAL(open)(given("BRIDGE_DISK_LOG"), O_WRONLY | O_APPEND | O_CLOEXEC);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 800);
    REAL(close)(fd);
    if (at != MAP_FAILED && log_fd >= 0) shared = at;
}

/* --- One writer of the log at a time, in all processes --- */

/* Signals are blocked, because a handler might end the process before it gives the lock back. */
static sigset_t take(void) {
    sigset_t all, before;
    uint32_t holder = 0;
    unsigned tries = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (!__atomic_compare_exchange_n(&shared->holder, &holder, (uint32_t)getpid(), 0, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
        /* A process that was killed does not give the lock back either. */
        if (++tries % 1000 == 0 && kill((pid_t)holder, 0) && errno == ESRCH)
            __atomic_compare_exchange_n(&shared->holder, &holder, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        holder = 0;
        nanosleep(&(struct timespec){0, 20000}, NULL);
    }
    return before;
}

static void give(sigset_t before) {
    int error = errno;
    __atomic_store_n(&shared->holder, 0, __ATOMIC_RELEASE);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
}

static void note(char kind, uint8_t flag, const char *path, uint64_t node, uint64_t a, uint64_t b,
                 const void *data, size_t bytes) {
    int error = errno;
    struct record head = {0, (uint8_t)kind, flag, (uint16_t)strlen(path), node, a, b};
    head.bytes = (uint32_t)(sizeof head + head.path_bytes + bytes);
    struct iovec parts[3] = {{&head, sizeof head}, {(char *)path, head.path_bytes}, {(void *)data, bytes}};
    /* Half a record would falsify the recording. No test is better than a wrong one. */
    if (REAL(writev)(log_fd, parts, 3) != (ssize_t)head.bytes) _exit(97);
    errno = error;
}

/* --- Paths of files --- */

/* Returns the path of an open file below the root, or that of the marks; NULL for other files. */
static const char *path_of(int fd, char *path, struct stat *seen) {
    int error = errno;
    char link[32];
    const char *found = NULL;
    if (shared && fd >= 0 && !fstat(fd, seen)
        && (seen->st_dev == device || seen->st_dev == marks_device)
        && (S_ISREG(seen->st_mode) || S_ISDIR(seen->st_mode))) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, PATH_MAX - 1);
        path[length > 0 ? length : 0] = 0;
        if (!strcmp(path, marks)) found = marks;
        else if (!strncmp(path, root, root_bytes) && (path[root_bytes] == '/' || !path[root_bytes]))
            found = path + root_bytes;
    }
    errno = error;
    return found;
}

/* Returns a name as a path below the root; NULL if it is not below the root. */
static const char *below(int folder, const char *name, char *path) {
    int error = errno;
    char whole[2 * PATH_MAX] = "", link[32], *part, *rest;
    size_t length = 0;
    if (!shared || !name) return NULL;
    if (name[0] != '/' && folder == AT_FDCWD && !getcwd(whole, PATH_MAX)) whole[0] = 0;
    if (name[0] != '/' && folder != AT_FDCWD) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t bytes = readlink(link, whole, PATH_MAX - 1);
        whole[bytes > 0 ? bytes : 0] = 0;
    }
    errno = error;
    size_t before = strlen(whole);
    snprintf(whole + before, sizeof whole - before, "/%s", name);
    path[0] = 0;
    for (part = strtok_r(whole, "/", &rest); part; part = strtok_r(NULL, "/", &rest)) {
        if (!strcmp(part, ".")) continue;
        if (!strcmp(part, "..")) {
            while (length && path[--length] != '/') {}
            path[length] = 0;
            continue;
        }
        int added = snprintf(path + length, PATH_MAX - length, "/%s", part);
        if (added < 0 || length + (size_t)added >= PATH_MAX) return NULL;
        length += (size_t)added;
    }
    return !strncmp(path, root, root_bytes) && path[root_bytes] == '/' ? path + root_bytes : NULL;
}

/* --- Files are opened, made and cut --- */

static int open_noted(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    const char *noted = flags & (O_CREAT | O_TRUNC) ? below(folder, name, path) : NULL;
    if (!noted) {
        int fd = REAL(openat)(folder, name, flags, mode);
        if (fd >= 0 && fd < HANDLES) lying[fd] = 0;
        return fd;
    }
    sigset_t before = take();
    struct stat seen;
    int error = errno, was_there = !fstatat(folder, name, &seen, 0);
    errno = error;
    int fd = REAL(openat)(folder, name, flags, mode);
    if (fd >= 0 && !fstat(fd, &seen) && S_ISREG(seen.st_mode)) {
        if (!was_there) note('C', 0, noted, seen.st_ino, seen.st_mode & 07777, 0, NULL, 0);
        else if (flags & O_TRUNC) note('T', 0, "", seen.st_ino, 0, 0, NULL, 0);
    }
    give(before);
    if (fd >= 0 && fd < HANDLES) lying[fd] = 0;
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                             \
    int name(const char *path, int flags, ...) {               \
        va_list rest;                                          \
        va_start(rest, flags);                                 \
        mode_t mode = mode_of(flags, rest);                    \
        va_end(rest);                                          \
        return open_noted(AT_FDCWD, path, flags, mode);        \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                           \
    int name(int folder, const char *path, int flags, ...) {   \
        va_list rest;                                          \
        va_start(rest, flags);                                 \
        mode_t mode = mode_of(flags, rest);                    \
        va_end(rest);                                          \
        return open_noted(folder, path, flags, mode);          \
    }
OPENAT(openat)
OPENAT(openat64)

int __open_2(const char *path, int flags) { return open_noted(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_noted(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char *path, int flags) { return open_noted(folder, path, flags, 0); }
int __openat64_2(int folder, const char *path, int flags) { return open_noted(folder, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_noted(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    if (fd >= 0 && fd < HANDLES) lying[fd] = 0;
    return REAL(close)(fd);
}

/* stdio writes inside the C library, so the whole file is recorded when it is closed. */
static FILE *fopen_noted(const char *name, const char *mode) {
    int flags = mode[0] == 'w' ? O_CREAT | O_TRUNC : mode[0] == 'a' ? O_CREAT | O_APPEND : 0;
    flags |= strchr(mode, '+') ? O_RDWR : flags ? O_WRONLY : O_RDONLY;
    flags |= strchr(mode, 'e') ? O_CLOEXEC : 0;
    flags |= strchr(mode, 'x') ? O_EXCL : 0;
    int fd = open_noted(AT_FDCWD, name, flags, 0666);
    return fd < 0 ? NULL : fdopen(fd, mode);
}
FILE *fopen(const char *name, const char *mode) { return fopen_noted(name, mode); }
FILE *fopen64(const char *name, const char *mode) { return fopen_noted(name, mode); }

int fclose(FILE *file) {
    char path[PATH_MAX];
    struct stat seen;
    int fd = fileno(file);
    const char *noted = path_of(fd, path, &seen);
    if (noted && noted != marks && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY && !fflush(file) && !fstat(fd, &seen)) {
        sigset_t before = take();
        char *bytes = malloc((size_t)seen.st_size + 1), own[32];
        snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
        int again = REAL(openat)(AT_FDCWD, own, O_RDONLY | O_CLOEXEC);
        ssize_t length = bytes && again >= 0 ? pread(again, bytes, (size_t)seen.st_size, 0) : 0;
        if (length > 0) note('W', 0, "", seen.st_ino, 0, 0, bytes, (size_t)length);
        if (again >= 0) REAL(close)(again);
        free(bytes);
        give(before);
    }
    return REAL(fclose)(file);
}

#define TRUNCATE(name)                                                                  \
    int name(int fd, off_t length) {                                                    \
        char path[PATH_MAX];                                                            \
        struct stat seen;                                                               \
        const char *noted = path_of(fd, path, &seen);                                   \
        if (!noted) return REAL(name)(fd, length);                                      \
        sigset_t before = take();                                                       \
        int end = REAL(name)(fd, length);                                               \
        if (!end) note('T', 0, "", seen.st_ino, (uint64_t)length, 0, NULL, 0);          \
        give(before);                                                                   \
        return end;                                                                     \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define TRUNCATE_BY_NAME(name)                                                          \
    int name(const char *path, off_t length) {                                          \
        int fd = open_noted(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);                   \
        int end = fd < 0 ? -1 : ftruncate(fd, length), error = errno;                   \
        if (fd >= 0) close(fd);                                                         \
        errno = error;                                                                  \
        return end;                                                                     \
    }
TRUNCATE_BY_NAME(truncate)
TRUNCATE_BY_NAME(truncate64)

static void note_room(int fd, off_t length) {
    char path[PATH_MAX];
    struct stat seen;
    if (!path_of(fd, path, &seen)) return;
    sigset_t before = take();
    note('A', 0, "", seen.st_ino, (uint64_t)length, 0, NULL, 0);
    give(before);
}

#define FALLOCATE(name)                                                                 \
    int name(int fd, int mode, off_t offset, off_t length) {                            \
        int end = REAL(name)(fd, mode, offset, length);                                 \
        if (!end && !mode) note_room(fd, offset + length);                              \
        return end;                                                                     \
    }
FALLOCATE(fallocate)
FALLOCATE(fallocate64)

#define POSIX_FALLOCATE(name)                                                           \
    int name(int fd, off_t offset, off_t length) {                                      \
        int end = REAL(name)(fd, offset, length);                                       \
        if (!end) note_room(fd, offset + length);                                       \
        return end;                                                                     \
    }
POSIX_FALLOCATE(posix_fallocate)
POSIX_FALLOCATE(posix_fallocate64)

/* --- Bytes are written --- */

/* If `offset` is negative, the bytes were written at the file's earlier position. */
static void note_bytes(int fd, uint64_t node, off_t offset, const void *data, ssize_t bytes) {
    if (bytes <= 0) return;
    int error = errno;
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - bytes;
    note('W', (fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC)) != 0, "", node, (uint64_t)offset, 0, data, (size_t)bytes);
    errno = error;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    char path[PATH_MAX];
    struct stat seen;
    const char *noted = path_of(fd, path, &seen);
    if (!noted) return REAL(write)(fd, data, bytes);
    sigset_t before = take();
    ssize_t end = (ssize_t)bytes;
    if (noted == marks) note('M', 0, "", 0, 0, 0, data, bytes);
    else note_bytes(fd, seen.st_ino, -1, data, end = REAL(write)(fd, data, bytes));
    give(before);
    return end;
}

#define PWRITE(name)                                                                    \
    ssize_t name(int fd, const void *data, size_t bytes, off_t offset) {                \
        char path[PATH_MAX];                                                            \
        struct stat seen;                                                               \
        const char *noted = path_of(fd, path, &seen);                                   \
        if (!noted) return REAL(name)(fd, data, bytes, offset);                         \
        sigset_t before = take();                                                       \
        ssize_t end = REAL(name)(fd, data, bytes, offset);                              \
        note_bytes(fd, seen.st_ino, offset, data, end);                                 \
        give(before);                                                                   \
        return end;                                                                     \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

static void note_parts(int fd, uint64_t node, off_t offset, const struct iovec *parts, ssize_t bytes) {
    off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) - bytes : offset;
    for (int part = 0; bytes > 0; part++) {
        ssize_t length = bytes < (ssize_t)parts[part].iov_len ? bytes : (ssize_t)parts[part].iov_len;
        note_bytes(fd, node, at, parts[part].iov_base, length);
        at += length;
        bytes -= length;
    }
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    struct stat seen;
    const char *noted = path_of(fd, path, &seen);
    if (!noted || noted == marks) return REAL(writev)(fd, parts, count);
    sigset_t before = take();
    ssize_t end = REAL(writev)(fd, parts, count);
    note_parts(fd, seen.st_ino, -1, parts, end);
    give(before);
    return end;
}

#define PWRITEV(name)                                                                   \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t offset) {          \
        char path[PATH_MAX];                                                            \
        struct stat seen;                                                               \
        const char *noted = path_of(fd, path, &seen);                                   \
        if (!noted) return REAL(name)(fd, parts, count, offset);                        \
        sigset_t before = take();                                                       \
        ssize_t end = REAL(name)(fd, parts, count, offset);                             \
        note_parts(fd, seen.st_ino, offset, parts, end);                                \
        give(before);                                                                   \
        return end;                                                                     \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

/* Copies inside the kernel are refused, so that the caller writes instead. */
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t bytes, unsigned flags) {
    char path[PATH_MAX];
    struct stat seen;
    if (!path_of(out, path, &seen)) return REAL(copy_file_range)(in, in_at, out, out_at, bytes, flags);
    errno = EXDEV;
    return -1;
}

#define SENDFILE(name)                                                                  \
    ssize_t name(int out, int in, off_t *offset, size_t bytes) {                        \
        char path[PATH_MAX];                                                            \
        struct stat seen;                                                               \
        if (!path_of(out, path, &seen)) return REAL(name)(out, in, offset, bytes);      \
        errno = EINVAL;                                                                 \
        return -1;                                                                      \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)

/* --- Names are made, changed and taken away --- */

static int named(char kind, int end, const char *path, int folder, const char *name) {
    struct stat seen = {0};
    int error = errno;
    if (!end && name) fstatat(folder, name, &seen, AT_SYMLINK_NOFOLLOW);
    errno = error;
    if (!end) note(kind, 0, path, seen.st_ino, seen.st_mode & 07777, 0, NULL, 0);
    return end;
}

int mkdirat(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    const char *noted = below(folder, name, path);
    if (!noted) return REAL(mkdirat)(folder, name, mode);
    sigset_t before = take();
    int end = named('D', REAL(mkdirat)(folder, name, mode), noted, folder, name);
    give(before);
    return end;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    const char *noted = below(folder, name, path);
    if (!noted) return REAL(unlinkat)(folder, name, flags);
    sigset_t before = take();
    int end = named('U', REAL(unlinkat)(folder, name, flags), noted, folder, NULL);
    give(before);
    return end;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char *name) {
    struct stat seen;
    return unlinkat(AT_FDCWD, name, !lstat(name, &seen) && S_ISDIR(seen.st_mode) ? AT_REMOVEDIR : 0);
}

/* The record's path is the old path, and its data is the new one. */
static int renamed(char kind, int end, const char *old, const char *new, int folder, const char *name) {
    struct stat seen = {0};
    if (!end) {
        fstatat(folder, name, &seen, AT_SYMLINK_NOFOLLOW);
        note(kind, 0, old, seen.st_ino, 0, 0, new, strlen(new));
    }
    return end;
}

#define RENAME(result, kind, folder, name, real)                                        \
    char old_path[PATH_MAX], new_path[PATH_MAX];                                        \
    const char *old_noted = below(old_folder, old, old_path), *new_noted = below(folder, name, new_path); \
    if (!old_noted || !new_noted) return real;                                          \
    sigset_t before = take();                                                           \
    int result = renamed(kind, real, old_noted, new_noted, folder, name);               \
    give(before);                                                                       \
    return result;

int renameat2(int old_folder, const char *old, int folder, const char *name, unsigned flags) {
    RENAME(end, 'R', folder, name, REAL(renameat2)(old_folder, old, folder, name, flags))
}
int renameat(int old_folder, const char *old, int folder, const char *name) {
    return renameat2(old_folder, old, folder, name, 0);
}
int rename(const char *old, const char *name) { return renameat2(AT_FDCWD, old, AT_FDCWD, name, 0); }

int linkat(int old_folder, const char *old, int folder, const char *name, int flags) {
    RENAME(end, 'L', folder, name, REAL(linkat)(old_folder, old, folder, name, flags))
}
int link(const char *old, const char *name) { return linkat(AT_FDCWD, old, AT_FDCWD, name, 0); }

/* --- Files are synced --- */

enum { DONE, FAILED, LIED };

static void rest(long micros) {
    nanosleep(&(struct timespec){micros / 1000000, micros % 1000000 * 1000}, NULL);
}

static int sync_noted(int fd, uint64_t node, const char *path) {
    sigset_t before = take();
    uint64_t id = ++shared->syncs;
    int end = fd < HANDLES && lying[fd] ? LIED : DONE, hangs = 0;
    if (fault[0] && (about[0] == '*' || strstr(path, about))) {
        unsigned number = ++shared->matched;
        int planned = number >= from && number < until;
        hangs = planned && !strcmp(fault, "hang");
        if (planned && !strcmp(fault, "fail")) end = FAILED;
        if (planned && !strcmp(fault, "lie")) end = LIED;
    }
    note('B', 0, "", node, id, 0, NULL, 0);
    give(before);
    if (hangs) {
        REAL(close)(REAL(openat)(AT_FDCWD, hung, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
        /* The hang ends when another process removes that file. */
        while (!access(hung, F_OK)) rest(2000);
    }
    rest(sync_micros);
    before = take();
    note('E', (uint8_t)end, "", node, id, 0, NULL, 0);
    give(before);
    if (end != FAILED) return 0;
    if (lies && fd < HANDLES) lying[fd] = 1;
    errno = EIO;
    return -1;
}

#define SYNC(name)                                                                      \
    int name(int fd) {                                                                  \
        char path[PATH_MAX];                                                            \
        struct stat seen;                                                               \
        const char *noted = path_of(fd, path, &seen);                                   \
        return noted && noted != marks ? sync_noted(fd, seen.st_ino, noted) : REAL(name)(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)
