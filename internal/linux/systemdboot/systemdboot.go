// Package systemdboot drives systemd-boot: which kernel a plain boot runs, one
// boot into another one, and the way back. It needs no bootctl: it reads and
// writes the loader's EFI variables and the entries of the Boot Loader
// Specification on the ESP by itself, and refuses what it does not understand.
//
// It never changes what a kernel's own entry boots. What it writes: the variables
// LoaderEntryDefault and LoaderEntryOneShot, the entry kernwave-trial.conf, and
// /etc/kernel/cmdline where there is none (see wayback.go).
//
//	d := systemdboot.New(systemdboot.Config{Root: "/"}, command.Exec{}, log)
//	err := d.SecureWayBack(ctx, running)
//	err = d.Arm(ctx, loader.Trial{Release: release, Running: running, Args: []string{"panic=30"}})
package systemdboot
