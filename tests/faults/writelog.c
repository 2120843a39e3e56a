/* What a process really did to its files and sockets, in order: preloaded, it notes every call below and lets it through.

   WRITELOG        the log; nothing is noted without it
   WRITELOG_BELOW  only files whose path begins like this are noted; what goes out over sockets always is
   WRITELOG_DIE_AT=SUFFIX:N  kill the process in the Nth write to a file whose name ends with SUFFIX, after half of it

   A record: 1 byte op, 4 bytes length of the path, 8 bytes offset, 8 bytes length of the data, the path, the data.
   Ops: W write, T truncate to offset, S flushed, U unlink, R rename (data: the new path), N sent over a socket.
   What leaves the process (N, and W on a pipe or log) is noted before it happens, what reaches the disk (W, S, ...) after:
   whoever reads the log never believes a promise was kept earlier than it was. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int log_fd = -1;
static const char *below = "";
static size_t below_length;
static char die_suffix[64];
static long die_count;

static ssize_t (*next_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*next_write)(int, const void *, size_t);
static int (*next_ftruncate)(int, off64_t);
static int (*next_fsync)(int);
static int (*next_fdatasync)(int);
static int (*next_unlink)(const char *);
static int (*next_rename)(const char *, const char *);
static ssize_t (*next_send)(int, const void *, size_t, int);
static ssize_t (*next_sendmsg)(int, const struct msghdr *, int);

static void *next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

static void start(void)
{
    next_pwrite = next("pwrite64");
    next_write = next("write");
    next_ftruncate = next("ftruncate64");
    next_fsync = next("fsync");
    next_fdatasync = next("fdatasync");
    next_unlink = next("unlink");
    next_rename = next("rename");
    next_send = next("send");
    next_sendmsg = next("sendmsg");
    const char *name = getenv("WRITELOG");
    if (getenv("WRITELOG_BELOW") != NULL)
        below = getenv("WRITELOG_BELOW");
    below_length = strlen(below);
    const char *die = getenv("WRITELOG_DIE_AT");
    if (die != NULL && sscanf(die, "%63[^:]:%ld", die_suffix, &die_count) != 2)
        die_count = 0;
    if (name != NULL)
        log_fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void ready(void) { pthread_once(&once, start); }

static int is_ours(const char *path) { return strncmp(path, below, below_length) == 0; }

static int path_of(int fd, char *path, size_t size)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_ours(path);
}

static void note(char op, const char *path, uint64_t offset, const void *data, uint64_t length)
{
    if (log_fd < 0)
        return;
    unsigned char head[21];
    uint32_t path_length = (uint32_t)strlen(path);
    head[0] = (unsigned char)op;
    memcpy(head + 1, &path_length, 4);
    memcpy(head + 5, &offset, 8);
    memcpy(head + 13, &length, 8);
    struct iovec parts[] = {{head, sizeof head}, {(void *)path, path_length}, {(void *)data, length}};
    pthread_mutex_lock(&one_at_a_time);
    if (syscall(SYS_writev, log_fd, parts, 3) != (ssize_t)(sizeof head + path_length + length))
        abort(); /* half a log proves nothing */
    pthread_mutex_unlock(&one_at_a_time);
}

static void die_if_wanted(int fd, const char *path, const void *data, size_t size, off64_t offset)
{
    size_t length = strlen(path), suffix = strlen(die_suffix);
    if (die_count <= 0 || length < suffix || strcmp(path + length - suffix, die_suffix) != 0)
        return;
    if (__sync_sub_and_fetch(&die_count, 1) == 0) {
        next_pwrite(fd, data, size / 2, offset);
        kill(getpid(), SIGKILL);
    }
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    char path[4096];
    ready();
    int ours = path_of(fd, path, sizeof path);
    if (ours)
        die_if_wanted(fd, path, data, size, offset);
    ssize_t done = next_pwrite(fd, data, size, offset);
    if (ours && done > 0)
        note('W', path, (uint64_t)offset, data, (uint64_t)done);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

/* Without a place: what is appended to a file, and what is said to others. */
ssize_t write(int fd, const void *data, size_t size)
{
    char path[4096];
    ready();
    if (log_fd >= 0 && path_of(fd, path, sizeof path))
        note('W', path, UINT64_MAX, data, size);
    return next_write(fd, data, size);
}

int ftruncate64(int fd, off64_t size)
{
    char path[4096];
    ready();
    int ours = path_of(fd, path, sizeof path);
    int failed = next_ftruncate(fd, size);
    if (ours && !failed)
        note('T', path, (uint64_t)size, NULL, 0);
    return failed;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int flushed(int fd, int failed)
{
    char path[4096];
    if (!failed && path_of(fd, path, sizeof path))
        note('S', path, 0, NULL, 0);
    return failed;
}

int fsync(int fd)
{
    ready();
    return flushed(fd, next_fsync(fd));
}

int fdatasync(int fd)
{
    ready();
    return flushed(fd, next_fdatasync(fd));
}

/* The whole path of a name that is given to a call; the log knows no working directory. */
static int whole(const char *path, char *out, size_t size)
{
    char here[4096] = "";
    if (path[0] != '/' && getcwd(here, sizeof here) == NULL)
        return 0;
    return snprintf(out, size, "%s%s%s", here, path[0] == '/' ? "" : "/", path) < (int)size && is_ours(out);
}

int unlink(const char *path)
{
    char full[8192];
    ready();
    int ours = whole(path, full, sizeof full);
    int failed = next_unlink(path);
    if (!failed && ours)
        note('U', full, 0, NULL, 0);
    return failed;
}

int rename(const char *from, const char *to)
{
    char full[8192], target[8192];
    ready();
    int ours = whole(from, full, sizeof full) && whole(to, target, sizeof target);
    int failed = next_rename(from, to);
    if (!failed && ours)
        note('R', full, 0, target, strlen(target));
    return failed;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    ready();
    note('N', "", 0, data, size);
    return next_send(fd, data, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ready();
    for (size_t i = 0; i < message->msg_iovlen; i++)
        note('N', "", 0, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
    return next_sendmsg(fd, message, flags);
}
