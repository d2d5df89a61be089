//go:build !linux

package script

import "syscall"

func childAttr() *syscall.SysProcAttr { return nil }
