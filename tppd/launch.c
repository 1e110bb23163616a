/* `tppd launch UID GID USER_UID USER_GID SHARED PROGRAM…`: PROGRAM as root of a user namespace of two accounts.
 *
 * Inside, 0 is the host's UID:GID, under which tppd and its shims will run, and 1000 is USER_UID:USER_GID, for
 * commands and the workspace. Two accounts, so that no command may signal, trace or limit the helper. Root
 * of the host writes the maps itself; anybody else owns USER_UID and has the second from /etc/subuid, by way of
 * newuidmap and newgidmap. Nothing inside can make a further user namespace. System V memory and messages,
 * which outlive their processes, are limited to SHARED pages and 256 queues. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define USER "1000"

static _Noreturn void fail(const char *what) {
    dprintf(2, "tppd launch: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0) close(fd);
    return n < 0 ? -1 : 0;
}

static void map(pid_t pid, const char *which, const char *helper, const char *user, bool root) {
    char path[64], text[128], number[16], program[16];
    if (root) {
        snprintf(path, sizeof path, "/proc/%d/%s_map", (int)pid, which);
        snprintf(text, sizeof text, "0 %s 1\n" USER " %s 1\n", helper, user);
        if (put(path, text) < 0) fail(path);
        return;
    }
    snprintf(number, sizeof number, "%d", (int)pid);
    snprintf(program, sizeof program, "new%smap", which);
    pid_t child = fork();
    if (child == 0) {
        execlp(program, program, number, "0", helper, "1", USER, user, "1", (char *)NULL);
        fail(program);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) < 0 || status) exit(1);
}

/* Outside of the namespace, once it is there. */
static _Noreturn void write_maps(pid_t pid, int told, char **ids) {
    char byte;
    bool root = geteuid() == 0;
    if (read(told, &byte, 1) != 1) exit(1);
    map(pid, "uid", ids[0], ids[2], root);
    map(pid, "gid", ids[1], ids[3], root);
    exit(0);
}

static void become(uid_t uid, gid_t gid) {
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) fail("change user");
}

int launch(int count, char **words) {
    int talk[2], status = 1;
    if (count < 6 || pipe2(talk, O_CLOEXEC) < 0) return 2;
    pid_t self = getpid(), mapper = fork();
    if (mapper < 0) fail("fork");
    if (mapper == 0) {
        close(talk[1]); /* so that our end ends its waiting */
        write_maps(self, talk[0], words);
    }
    if (geteuid() == 0) become((uid_t)strtoul(words[0], NULL, 10), (gid_t)strtoul(words[1], NULL, 10));
    if (unshare(CLONE_NEWUSER | CLONE_NEWIPC) < 0) fail("user namespace");
    if (write(talk[1], "", 1) != 1 || waitpid(mapper, &status, 0) < 0 || status) return 1;
    become(0, 0);
    if (put("/proc/sys/user/max_user_namespaces", "0") < 0) fail("user namespaces inside");
    put("/proc/sys/kernel/shmall", words[4]); /* where the kernel lets a namespace choose */
    put("/proc/sys/kernel/msgmni", "256");
    execv(words[5], words + 5);
    fail(words[5]);
}
