/* Count what a process asks of the disk: loaded before the C library (LD_PRELOAD), read by ctypes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_llong syncs, written;

long long bench_syncs(void) { return syncs; }
long long bench_written(void) { return written; }

#define REAL(name) __extension__({ static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real; })

static ssize_t count(ssize_t size) { if (size > 0) written += size; return size; }

int fsync(int fd) { syncs++; return REAL(fsync)(fd); }
int fdatasync(int fd) { syncs++; return REAL(fdatasync)(fd); }

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return count(REAL(pwrite)(fd, data, size, at)); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return count(REAL(pwrite64)(fd, data, size, at)); }

/* Pipes and terminals are not the disk. */
ssize_t write(int fd, const void *data, size_t size) {
    struct stat file;
    ssize_t done = REAL(write)(fd, data, size);
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) ? count(done) : done;
}
