package script

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

var (
	allowedHere = []uintptr{unix.SYS_EPOLL_WAIT, unix.SYS_ARCH_PRCTL}
	deadlyHere  = []uintptr{unix.SYS_FORK, unix.SYS_VFORK}
)
