// Package grub drives GRUB 2: which kernel a plain boot runs, one boot into
// another one, and the way back. It reads grub.cfg as far as grub-mkconfig
// writes it, and refuses what it does not understand: a host whose next boot
// cannot be told must not be touched.
//
// It never edits grub.cfg and never changes a kernel's own menu entry. What it
// writes: the environment block (in place), kernwave.cfg beside grub.cfg (the
// trial's entry), a drop-in for /etc/default/grub.d and a script for /etc/grub.d.
//
//	d := grub.New(grub.Config{Root: "/"}, command.Exec{}, log)
//	err := d.SecureWayBack(ctx, running)
//	err = d.Arm(ctx, loader.Trial{Release: release, Running: running, Args: []string{"panic=30"}})
package grub
