/* The system calls that commands may not make: a deny list above whatever the driver's own profile says.
 * They are the doors through which shared kernels were left: namespaces and mounts, kernel modules, BPF,
 * keyrings, io_uring, raw and odd socket families, and typing into a terminal (TIOCSTI).
 * Denied means EPERM, save clone3: ENOSYS, because the C library then falls back to clone, whose flags
 * can be looked at. Calls of a foreign architecture (32-bit, x32) get ENOSYS as a whole. */
#include "tppd.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#else
#error "tppd knows x86_64 and aarch64"
#endif

/* Numbers that old headers lack; the same on both architectures. */
enum {
    NR_IO_URING_SETUP = 425, NR_IO_URING_ENTER = 426, NR_IO_URING_REGISTER = 427, NR_OPEN_TREE = 428,
    NR_MOVE_MOUNT = 429, NR_FSOPEN = 430, NR_FSCONFIG = 431, NR_FSMOUNT = 432, NR_FSPICK = 433,
    NR_CLONE3 = 435, NR_PIDFD_GETFD = 438, NR_MOUNT_SETATTR = 442, NR_QUOTACTL_FD = 443,
    NR_MEMFD_SECRET = 447, NR_OPEN_TREE_ATTR = 467,
};

static const int denied[] = {
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_setns, SYS_swapon, SYS_swapoff, SYS_reboot,
    SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_bpf, SYS_perf_event_open,
    SYS_userfaultfd, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_kcmp, SYS_open_by_handle_at,
    SYS_name_to_handle_at, SYS_acct, SYS_quotactl, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
    SYS_clock_adjtime, SYS_sethostname, SYS_setdomainname, SYS_syslog, SYS_vhangup, SYS_fanotify_init,
    SYS_lookup_dcookie, SYS_kexec_file_load, SYS_mbind, SYS_migrate_pages, SYS_move_pages,
    NR_IO_URING_SETUP, NR_IO_URING_ENTER, NR_IO_URING_REGISTER, NR_OPEN_TREE, NR_MOVE_MOUNT, NR_FSOPEN,
    NR_FSCONFIG, NR_FSMOUNT, NR_FSPICK, NR_PIDFD_GETFD, NR_MOUNT_SETATTR, NR_QUOTACTL_FD, NR_OPEN_TREE_ATTR,
    NR_MEMFD_SECRET,
#ifdef __x86_64__
    SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl, SYS_vserver,
    SYS_create_module, SYS_get_kernel_syms, SYS_query_module, SYS_nfsservctl,
#endif
};
static const int traced[] = {SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev};
/* IPX, X25, AX25, APPLETALK, KEY, PACKET, RDS, PPPOX, LLC, IB, MPLS, CAN, TIPC, ALG, NFC, VSOCK, KCM, XDP */
static const int families[] = {4, 9, 3, 5, 15, 17, 21, 24, 26, 27, 28, 29, 30, 38, 39, 40, 41, 44};
static const unsigned terminal_ioctls[] = {0x5412 /* TIOCSTI */, 0x541C /* TIOCLINUX */};

#define NAMESPACES 0x7E020080u /* NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET NEWTIME */
#define CLONE_NAMESPACES 0x7E020000u /* in clone, 0x80 is part of the exit signal */
#define COUNT(list) (sizeof list / sizeof *list)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define NUMBER offsetof(struct seccomp_data, nr)
#define ARGUMENT(i) (offsetof(struct seccomp_data, args) + 8 * (i)) /* the low half: both are little-endian */

static struct sock_filter program[256];
static unsigned short length;

static void put(struct sock_filter instruction) { program[length++] = instruction; }

static void deny(int number, unsigned error) {
    put((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1));
    put((struct sock_filter)RETURN(SECCOMP_RET_ERRNO | error));
}

/* When the call is `number` and argument `i` has one of `bits`: EPERM. */
static void deny_bits(int number, int i, unsigned bits) {
    put((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 4));
    put((struct sock_filter)LOAD(ARGUMENT(i)));
    put((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1));
    put((struct sock_filter)RETURN(SECCOMP_RET_ERRNO | EPERM));
    put((struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
}

/* When the call is `number` and argument `i` is one of `values`: EPERM. */
static void deny_values(int number, int i, const unsigned *values, size_t count) {
    put((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0,
                                     (unsigned char)(2 * count + 2)));
    put((struct sock_filter)LOAD(ARGUMENT(i)));
    for (size_t n = 0; n < count; n++) deny((int)values[n], EPERM);
    put((struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
}

static int install(void) {
    struct sock_fprog filter = {length, program};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}

/* For tppd itself at its start, so that every child has it from birth and no command pays for it. */
int seccomp_install(void) {
    unsigned odd[COUNT(families)];
    for (size_t i = 0; i < COUNT(families); i++) odd[i] = (unsigned)families[i];
    length = 0;
    put((struct sock_filter)LOAD(offsetof(struct seccomp_data, arch)));
    put((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 1, 0));
    put((struct sock_filter)RETURN(SECCOMP_RET_ERRNO | ENOSYS));
    put((struct sock_filter)LOAD(NUMBER));
#ifdef __x86_64__
    put((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1)); /* x32 */
    put((struct sock_filter)RETURN(SECCOMP_RET_ERRNO | ENOSYS));
#endif
    deny_values(SYS_ioctl, 1, terminal_ioctls, COUNT(terminal_ioctls));
    deny_values(SYS_socket, 0, odd, COUNT(odd));
    deny_values(SYS_socketpair, 0, odd, COUNT(odd));
    deny_bits(SYS_clone, 0, CLONE_NAMESPACES);
    deny_bits(SYS_unshare, 0, NAMESPACES);
    deny(NR_CLONE3, ENOSYS);
    for (size_t i = 0; i < COUNT(denied); i++) deny(denied[i], EPERM);
    put((struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
    return install();
}

/* When the call is `number` and argument `i` is not 0: EPERM. */
static void deny_others(int number, int i) {
    put((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 4));
    put((struct sock_filter)LOAD(ARGUMENT(i)));
    put((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0));
    put((struct sock_filter)RETURN(SECCOMP_RET_ERRNO | EPERM));
    put((struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
}

/* On top, for a child that may not trace (`tracing`), and for one that runs under the helper's own account and
 * must not reach it (`reaching`): no limits and no priorities of other processes, nothing of the scheduler for
 * process 1, no signal to everybody. A signal to a shim cannot be told from others here: tppd continues
 * a stopped one, and finds what a killed one left. The first filter has turned foreign architectures away. */
int seccomp_deny(bool tracing, bool reaching) {
    static const unsigned helper[] = {1}, everybody[] = {(unsigned)-1}, user[] = {2 /* PRIO_USER */},
                          account[] = {3 /* IOPRIO_WHO_USER */};
    static const int scheduler[] = {SYS_sched_setaffinity, SYS_sched_setscheduler, SYS_sched_setparam,
                                    SYS_sched_setattr};
    length = 0;
    put((struct sock_filter)LOAD(NUMBER));
    for (size_t i = 0; tracing && i < COUNT(traced); i++) deny(traced[i], EPERM);
    for (size_t i = 0; reaching && i < COUNT(scheduler); i++) deny_values(scheduler[i], 0, helper, 1);
    if (reaching) {
        deny_others(SYS_prlimit64, 0);
        deny_values(SYS_kill, 0, everybody, 1);
    }
    put((struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
    if (length > 2 && install() < 0) return -1;
    if (!reaching) return 0;
    length = 0; /* `who` and `which` of one call: a filter each */
    put((struct sock_filter)LOAD(NUMBER));
    deny_others(SYS_setpriority, 1);
    deny_others(SYS_ioprio_set, 1);
    put((struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
    if (install() < 0) return -1;
    length = 0;
    put((struct sock_filter)LOAD(NUMBER));
    deny_values(SYS_setpriority, 0, user, 1);
    deny_values(SYS_ioprio_set, 0, account, 1);
    put((struct sock_filter)RETURN(SECCOMP_RET_ALLOW));
    return install();
}
