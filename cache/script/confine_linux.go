//go:build amd64 || arm64

package script

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine takes from this process what a program has no use for: memory and processor time beyond its budgets, files,
// the network, other processes. What the kernel's own list of allowed calls forbids ends the process or fails.
func confine(wall time.Duration, memory, deadlineNS int64) error {
	// The first to go when the machine runs out of memory. May be refused: then it is as likely as others.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 5) // the gateway's own work comes first
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	first, _, _ := bytes.Cut(b, []byte(" "))
	pages, err := strconv.ParseInt(string(first), 10, 64)
	if err != nil {
		return err
	}
	// Go's collector needs up to as much again as the values take, and reserves address space in pieces of 64 MiB.
	as := uint64(pages*int64(os.Getpagesize()) + 2*memory + 192<<20)
	cpu := uint64(wall/time.Second) + 2
	for _, l := range []struct {
		what int
		most uint64
	}{
		{unix.RLIMIT_AS, as},
		{unix.RLIMIT_CPU, cpu},
		{unix.RLIMIT_NOFILE, 16},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_MEMLOCK, 0},
	} {
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: l.most, Max: l.most}); err != nil {
			return fmt.Errorf("limit %d: %w", l.what, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("no dumps: %w", err)
	}
	if err := deadline(deadlineNS + int64(deadlineAfter)); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	return filter()
}

// deadlineAfter is how long after its budget a program is ended by the kernel, should the gateway be kept from doing it.
const deadlineAfter = 20 * time.Millisecond

// clockNS is the clock by which the gateway and its children mean the same instant.
func clockNS() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// deadline makes the kernel end this process at an instant of clockNS: it needs no turn on a processor for that, as the gateway does.
func deadline(at int64) error {
	event := struct {
		value          uint64
		signal, notify int32 // notify 0: by the signal
		_              [48]byte
	}{signal: int32(unix.SIGKILL)}
	var id int32
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&id))); errno != 0 {
		return errno
	}
	when := unix.ItimerSpec{Value: unix.NsecToTimespec(at)}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(id), unix.TFD_TIMER_ABSTIME, uintptr(unsafe.Pointer(&when)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// allowed are the calls that Go's runtime makes in a program that only computes and talks over two pipes.
var allowed = append([]uintptr{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE,
	unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_MREMAP,
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_TGKILL,
	unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PIPE2, unix.SYS_FCNTL,
	unix.SYS_PPOLL, unix.SYS_RESTART_SYSCALL, unix.SYS_GETRANDOM, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_MEMBARRIER,
}, allowedHere...)

// deadly are calls that no mistake explains: a process that makes one is ended by the kernel.
var deadly = append([]uintptr{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_PTRACE,
	unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_BPF, unix.SYS_KILL,
}, deadlyHere...)

const (
	retAllow = 0x7fff0000 // SECCOMP_RET_ALLOW
	retKill  = 0x80000000 // SECCOMP_RET_KILL_PROCESS
	retErrno = 0x00050000 // SECCOMP_RET_ERRNO, the error in the lower half
)

// filter installs the list for every thread.
func filter() error {
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	jump := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	const load = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ret := func(v uint32) unix.SockFilter { return stmt(unix.BPF_RET|unix.BPF_K, v) }
	f := []unix.SockFilter{
		stmt(load, 4), // the architecture: numbers mean something else in another
		jump(auditArch, 1, 0),
		ret(retKill),
		stmt(load, 0), // the call's number
	}
	for _, nr := range deadly {
		f = append(f, jump(uint32(nr), 0, 1), ret(retKill))
	}
	for _, nr := range allowed {
		f = append(f, jump(uint32(nr), 0, 1), ret(retAllow))
	}
	// A new thread, not a new process. clone3 hides its flags from filters: pretend that the kernel has none.
	f = append(f,
		jump(unix.SYS_CLONE3, 0, 1), ret(retErrno|uint32(unix.ENOSYS)),
		jump(unix.SYS_CLONE, 0, 4),
		stmt(load, 16), // the lower half of the first argument
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jt: 0, Jf: 1},
		ret(retAllow),
		ret(retKill),
		ret(retErrno|uint32(unix.EPERM)),
	)
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return fmt.Errorf("restrict system calls: %w", errno)
	}
	return nil
}
