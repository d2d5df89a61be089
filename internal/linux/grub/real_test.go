package grub

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/linux/command"
)

// GRUB's own file system code, which replays no journal, must find the trial's entry and the environment block as soon
// as Arm returns: with the file system still mounted, as it is when the power goes. On XFS this needs the freeze; on
// ext4 syncfs happens to write the journal back too.
func TestGRUBFindsWhatWasArmedWithoutTheJournal(t *testing.T) {
	for _, tool := range []string{"grub-fstest", "mount", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: what GRUB sees of a mounted file system is not tested here", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: cannot mount a file system to freeze")
	}
	img := filepath.Join(t.TempDir(), "boot.img")
	for _, c := range []struct{ name, mkfs, options string }{
		{"ext4", "mkfs.ext4 -q -F", "loop,commit=300"},
		{"ext4 with data in the journal", "mkfs.ext4 -q -F", "loop,commit=300,data=journal"},
		{"xfs", "mkfs.xfs -q -f", "loop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mkfs := append(strings.Fields(c.mkfs), img)
			if _, err := exec.LookPath(mkfs[0]); err != nil {
				t.Skipf("%s is not installed", mkfs[0])
			}
			must(t, "truncate", "-s", "320M", img) // the least that mkfs.xfs takes; nearly all of it is a hole
			must(t, mkfs[0], mkfs[1:]...)
			h := newHost(t)
			boot := filepath.Join(h.root, "boot")
			if out, err := exec.Command("mount", "-o", c.options, img, boot).CombinedOutput(); err != nil {
				t.Skipf("cannot mount a loop device here: %v: %s", err, out)
			}
			t.Cleanup(func() { must(t, "umount", boot) })
			if err := os.Mkdir(filepath.Join(boot, "grub"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, r := range []string{newest, middle, oldest} {
				h.write("boot/vmlinuz-"+r, "kernel")
				h.write("boot/initrd.img-"+r, "initrd")
			}
			real, err := New(Config{Root: h.root}, h, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			h.d.settle = real.settle
			h.updateGrub()
			if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
				t.Fatal(err)
			}
			if err := h.d.Arm(t.Context(), trial); err != nil {
				t.Fatal(err)
			}
			grubSees := func(file string) string {
				out, err := exec.Command("grub-fstest", img, "cat", "(loop0)/grub/"+file).CombinedOutput()
				if err != nil {
					t.Fatalf("GRUB does not find %s: %v: %s", file, err, out)
				}
				return string(out)
			}
			if e, err := ParseEnv([]byte(grubSees("grubenv"))); err != nil || e.Get("next_entry") != TrialID {
				t.Errorf("GRUB reads next_entry %q, %v", e.Get("next_entry"), err)
			}
			if got := grubSees(trialFile); !strings.Contains(got, "kernwave.trial=op-1") {
				t.Errorf("GRUB reads the trial's entry as %q", got)
			}
			if got := grubSees("grub.cfg"); !strings.Contains(got, trialFile) || !strings.Contains(got, "${saved_entry}") {
				t.Error("GRUB reads an older grub.cfg")
			}
			if err := h.d.Disarm(); err != nil {
				t.Fatal(err)
			}
			if e, err := ParseEnv([]byte(grubSees("grubenv"))); err != nil || e.Get("next_entry") != "" {
				t.Errorf("after disarming GRUB reads next_entry %q, %v", e.Get("next_entry"), err)
			}
		})
	}
}

func must(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

func TestALeftoverFreezeIsEnded(t *testing.T) {
	h := newHost(t)
	mark := filepath.Join(h.root, "run/kernwave/frozen")
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		t.Fatal(err)
	}
	// A folder on a file system that is not frozen stands for one that thawed by itself.
	if err := os.WriteFile(mark, []byte(t.TempDir()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := thawLeftover(mark); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	} else if err != nil {
		t.Skip("not root: may not thaw")
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the mark is still there")
	}
	if err := thawLeftover(mark); err != nil {
		t.Error(err)
	}
}

// The real grub-mkconfig, in a mount namespace of its own, must turn our drop-in and script into a configuration that
// the driver trusts.
func TestRealGrubMkconfigTakesTheDropIn(t *testing.T) {
	for _, tool := range []string{"grub-mkconfig", "unshare", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: only recorded configurations are tested", tool)
		}
	}
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Skipf("no mount namespaces here: %v", err)
	}
	for _, settings := range []string{
		"GRUB_DEFAULT=0\n", "GRUB_DEFAULT=2\nGRUB_TIMEOUT=0\nGRUB_TIMEOUT_STYLE=hidden\n",
		"GRUB_DEFAULT=saved\nGRUB_SAVEDEFAULT=true\n", "GRUB_DISABLE_SUBMENU=y\nGRUB_DISABLE_RECOVERY=true\n",
	} {
		h := newHost(t)
		must(t, "rm", "-r", filepath.Join(h.root, "etc/grub.d"))
		must(t, "cp", "-a", "/etc/grub.d", filepath.Join(h.root, "etc/grub.d"))
		must(t, "sh", "-c", "rm -f "+h.root+"/etc/grub.d/[23]0_*")
		h.write("etc/default/grub", settings)
		probe := filepath.Join(h.root, "grub-probe")
		if err := os.WriteFile(probe, []byte(fakeProbe), 0o700); err != nil {
			t.Fatal(err)
		}
		h.d.run = realMkconfig{h}
		if err := h.d.updateGrub(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
			t.Errorf("%q: %v", settings, err)
			continue
		}
		if err := h.d.Arm(t.Context(), trial); err != nil {
			t.Errorf("%q: %v", settings, err)
			continue
		}
		h.wantBoot(newest, true)
		h.wantBoot(middle, false)
	}
}

const fakeProbe = `#!/bin/sh
case "$*" in *target=device*) echo /dev/nvme0n1p3;; *target=fs_uuid*) echo 2ab0d3f4-8d0a-4c7e-9a55-0d1f6c1f7b11;;
*target=hint*|*target=abstraction*) ;; *target=fs*) echo ext2;; *target=partmap*) echo gpt;;
*target=compatibility_hint*) echo hd0,gpt3;; *target=disk*) echo /dev/nvme0n1;; esac
`

// realMkconfig runs the machine's own grub-mkconfig over a fake root's files.
type realMkconfig struct{ *host }

func (r realMkconfig) Run(ctx context.Context, c command.Cmd) (string, error) {
	if c.Name != "update-grub" {
		return r.host.Run(ctx, c)
	}
	script := `set -e; mount --make-rprivate /
mount --bind $0/boot /boot; mount --bind $0/etc/default /etc/default; mount --bind $0/etc/grub.d /etc/grub.d
mount --bind $0/grub-probe "$(command -v grub-probe || echo /usr/sbin/grub-probe)"
exec grub-mkconfig -o /boot/grub/grub.cfg`
	out, err := command.Exec{}.Run(ctx, command.Cmd{Name: "unshare", Args: []string{"-m", "sh", "-c", script, r.root}})
	if err == nil { // the bound folder shows in paths
		cfg, _ := os.ReadFile(filepath.Join(r.root, cfgFile))
		r.write(cfgFile, strings.ReplaceAll(string(cfg), r.root+"/boot", "/boot"))
	}
	return out, err
}
