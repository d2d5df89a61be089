package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// A Fault is what a repacked kernel does.
type Fault string

const (
	// Clean works; it only has another package version than Debian's.
	Clean Fault = "clean"
	// Panic panics before systemd starts.
	Panic Fault = "panic"
	// Hang stops before systemd starts, without a panic and before any watchdog is armed: only a power cycle helps.
	Hang Fault = "hang"
	// HangLate stops when systemd has armed the hardware watchdog: nothing but the kernel's interrupts runs any more.
	HangLate Fault = "hanglate"
	// Emergency comes up with a mount that is not there: systemd ends in its emergency target.
	Emergency Fault = "emergency"
	// NoNetwork comes up healthy but has no driver for the network card.
	NoNetwork Fault = "nonet"
	// ShortImage has a vmlinuz that is cut short, in a package that is sound. ShortModules has modules that are.
	ShortImage   Fault = "shortimage"
	ShortModules Fault = "shortmodules"
)

// A Variant says how a repacked kernel differs from the real one.
type Variant struct {
	Fault Fault
	// Model limits the fault to hosts whose DMI product name it is. Empty means all hosts.
	Model string
}

//go:embed repack.go
var repackSource string

var notInVersion = regexp.MustCompile(`[^a-z0-9.]+`)

func (v Variant) String() string {
	s := string(v.Fault)
	if v.Model != "" {
		s += "." + strings.Trim(notInVersion.ReplaceAllString(strings.ToLower(v.Model), "."), ".")
	}
	return s
}

// Repack makes a package like k with a fault, without compiling: the kernel is Debian's, and its uname -r and package
// name stay, so use another k for each variant. The package version gets the suffix +lab.VARIANT. Faults before
// systemd live in an initramfs that the package brings, which reads the host's model; the guest's update-grub picks it
// up like any other. The result is cached.
func (im *Images) Repack(ctx context.Context, k Kernel, v Variant) (Kernel, error) {
	out := k
	out.Variant = v.String()
	out.Version += "+lab." + v.String()
	key := hashOf(repackSource, k.SHA256, string(v.Fault), v.Model)
	unlock, err := lockFile(ctx, filepath.Join(im.cache, "lock"))
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	err = im.steps.run("", "repack "+k.Release+" as "+v.String(), func() (string, error) {
		dir, err := buildDir(filepath.Join(im.cache, "repacked"), key, func(tmp string) error { return im.repack(ctx, k, v, out.Version, tmp) })
		out.Path = filepath.Join(dir, "kernel.deb")
		return "", err
	})
	if err != nil {
		return Kernel{}, &fleet.Error{Op: "repack " + k.Release + " as " + v.String(), Err: err}
	}
	st, err := os.Stat(out.Path)
	if err != nil {
		return Kernel{}, err
	}
	out.Size = st.Size()
	out.SHA256, err = fileSHA256(out.Path)
	return out, err
}

func (im *Images) repack(ctx context.Context, k Kernel, v Variant, version, tmp string) error {
	tree := filepath.Join(tmp, "tree")
	if _, err := run(ctx, exec.Command("dpkg-deb", "-R", k.Path, tree)); err != nil {
		return err
	}
	control := filepath.Join(tree, "DEBIAN/control")
	text, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	changed := strings.Replace(string(text), "\nVersion: "+k.Version+"\n", "\nVersion: "+version+"\n", 1)
	if changed == string(text) {
		return fmt.Errorf("its control file has no version %s", k.Version)
	}
	if err := os.WriteFile(control, []byte(changed), 0o644); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(tree, "DEBIAN/md5sums"))
	if err := im.addFault(tree, k, v); err != nil {
		return err
	}
	if _, err := run(ctx, exec.Command("dpkg-deb", "-Zzstd", "-z1", "--root-owner-group", "-b", tree, filepath.Join(tmp, "kernel.deb"))); err != nil {
		return err
	}
	return os.RemoveAll(tree)
}

// addFault puts the fault into an unpacked package.
func (im *Images) addFault(tree string, k Kernel, v Variant) error {
	switch {
	case v.Fault == Clean:
		return nil
	case (v.Fault == ShortImage || v.Fault == ShortModules) && v.Model != "":
		return fmt.Errorf("the fault %s cannot be limited to a model: it is in the package's files", v.Fault)
	case v.Fault == ShortImage:
		return halve(filepath.Join(tree, "boot/vmlinuz-"+k.Release))
	case v.Fault == ShortModules:
		return halveModules(tree)
	case v.Fault == NoNetwork && v.Model == "":
		return removeDriver(tree, "virtio_net.ko")
	case v.Fault == Panic || v.Fault == Hang || v.Fault == HangLate || v.Fault == Emergency || v.Fault == NoNetwork:
		busybox, err := os.ReadFile(filepath.Join(im.dir, "busybox"))
		if err != nil {
			return err
		}
		var a initramfs
		for _, dir := range []string{"bin", "dev", "proc", "sys", "root"} {
			a.add(dir, modeDir, nil)
		}
		a.add("bin/busybox", modeFile, busybox)
		a.add("init", modeFile, []byte(initScript(v)))
		return os.WriteFile(filepath.Join(tree, "boot/initrd.img-"+k.Release), a.bytes(), 0o644)
	}
	return fmt.Errorf("unknown fault %q", v.Fault)
}

// halve cuts the second half of a file off.
func halve(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, st.Size()/2)
}

func halveModules(tree string) error {
	n := 0
	err := filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".ko") && d.Type().IsRegular() {
			n++
			return halve(path)
		}
		return err
	})
	if n == 0 {
		err = errors.Join(err, errors.New("the package has no modules"))
	}
	return err
}

func removeDriver(tree, name string) error {
	found := errors.New("the package has no " + name)
	err := filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), name) {
			found = nil
			return os.Remove(path)
		}
		return err
	})
	return errors.Join(err, found)
}

// hangLate waits beside systemd until it has armed the watchdog, and takes the only CPU for good: a task of the highest
// priority, without the shares that the kernel keeps for all others.
const hangLate = `until [ "$(cat /sys/class/watchdog/watchdog0/state 2>/dev/null)" = active ]; do sleep 1; done
mount -t debugfs none /sys/kernel/debug 2>/dev/null
for cpu in /sys/kernel/debug/sched/fair_server/cpu*; do echo 0 >$cpu/runtime; done
echo -1 >/proc/sys/kernel/sched_rt_runtime_us
echo "KERNWAVE-LAB hangs now, with its watchdog armed" >/dev/console
exec chrt -f 99 /bin/sh -c "while :; do :; done"`

// initScript is the /init of a kernel with a fault: it goes on to systemd on hosts that the fault is not meant for.
func initScript(v Variant) string {
	var early, late string
	switch v.Fault {
	case Panic:
		early = "ill && exit 1" // the kernel panics when its first process ends
	case Hang:
		early = "while ill; do sleep 1000; done"
	case HangLate:
		late = "ill && chroot /root /bin/sh -c " + quote(hangLate) + " &"
	case Emergency:
		late = `if ill; then
	echo '/dev/disk/by-label/gone /srv/gone ext4 x-systemd.device-timeout=3s 0 2' >/fstab
	mount -o bind /fstab /root/etc/fstab
fi`
	case NoNetwork: // something that is no module covers the driver
		late = `ill && mount -o bind /init "$(find /root/lib/modules/$(uname -r)/ -name 'virtio_net.ko*')"`
	}
	return strings.NewReplacer("@MODEL@", quote(v.Model), "@EARLY@", early, "@LATE@", late).Replace(`#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
model=@MODEL@
ill() { [ -z "$model" ] || [ "$(cat /sys/class/dmi/id/product_name)" = "$model" ]; }
@EARLY@
disk() {
	for arg in $(cat /proc/cmdline); do
		case $arg in
		root=/dev/*) [ -b "${arg#root=}" ] && echo "${arg#root=}" && return ;;
		root=UUID=* | root=LABEL=*) findfs "${arg#root=}" 2>/dev/null && return ;;
		esac
	done
	for part in /sys/class/block/*/uevent; do # root=PARTUUID= and the like
		grep -q '^PARTNAME=root$' $part && part=${part%/uevent} && echo /dev/${part##*/} && return
	done
}
i=0
until root=$(disk) && [ -n "$root" ]; do
	i=$((i + 1))
	[ $i -lt 300 ] || exit 1
	sleep 0.1
done
mount -t ext4 -o rw $root /root
@LATE@
umount /proc /sys
mount -o move /dev /root/dev
exec switch_root /root /sbin/init
`)
}
