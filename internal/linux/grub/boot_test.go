package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machine is a virtual machine with GRUB on its disk and no Linux.
type machine struct {
	t             *testing.T
	disk, console string
	boot          string // where the disk's only file system is mounted, while it is
	mounted       bool
}

// newMachine makes the disk and mounts it at boot.
func newMachine(t *testing.T, boot string) *machine {
	t.Helper()
	if testing.Short() {
		t.Skip("short: no virtual machine")
	}
	for _, tool := range []string{"qemu-system-x86_64", "grub-mkimage", "mkfs.ext4", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: GRUB itself is not run here", tool)
		}
	}
	const modules = "/usr/lib/grub/i386-pc"
	if _, err := os.Stat(modules + "/boot.img"); err != nil {
		t.Skip("grub-pc-bin is not installed: GRUB itself is not run here")
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: cannot mount the disk")
	}
	dir := t.TempDir()
	m := &machine{t: t, disk: filepath.Join(dir, "disk.img"), console: filepath.Join(dir, "console"), boot: boot}
	must(t, "truncate", "-s", "65M", m.disk)
	must(t, "mkfs.ext4", "-q", "-F", "-E", "offset=1048576", m.disk, "64M")
	installGRUB(t, m.disk, dir, modules)
	m.mount()
	t.Cleanup(m.unmount)
	must(t, "sh", "-c", "mkdir -p "+boot+"/grub/i386-pc && cp "+modules+"/*.mod "+modules+"/*.lst "+boot+"/grub/i386-pc/")
	return m
}

func (m *machine) mount() {
	m.t.Helper()
	if out, err := exec.Command("mount", "-o", "loop,offset=1048576", m.disk, m.boot).CombinedOutput(); err != nil {
		m.t.Skipf("cannot mount a loop device here: %v: %s", err, out)
	}
	m.mounted = true
}

func (m *machine) unmount() {
	m.t.Helper()
	if m.mounted {
		must(m.t, "umount", m.boot)
	}
	m.mounted = false
}

// run starts the machine and stops it when its console shows last. It returns what the console showed.
func (m *machine) run(last string) string {
	m.t.Helper()
	m.unmount()
	vm := exec.CommandContext(m.t.Context(), "qemu-system-x86_64", "-display", "none", "-nodefaults", "-m", "64", "-monitor", "none",
		"-serial", "file:"+m.console, "-drive", "file="+m.disk+",format=raw,if=ide")
	var said bytes.Buffer
	vm.Stdout, vm.Stderr = &said, &said
	if err := vm.Start(); err != nil {
		m.t.Fatal(err)
	}
	defer func() {
		_ = vm.Process.Kill()
		_ = vm.Wait()
	}()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		b, _ := os.ReadFile(m.console)
		if strings.Contains(string(b), last) {
			return string(b)
		}
		if time.Since(began) > 2*time.Minute {
			m.t.Fatalf("no %q within 2 minutes; %s; the console:\n%s", last, said.String(), b)
		}
	}
}

// The real GRUB must find the armed trial, clear next_entry on the disk before it tries, and, where the kernel on trial
// cannot be loaded, go back to the default by itself instead of waiting at its menu for a key.
func TestRealGRUBGoesBackWhenTheTrialCannotBeLoaded(t *testing.T) {
	h := newHost(t)
	m := newMachine(t, filepath.Join(h.root, "boot"))
	for _, r := range []string{newest, middle, oldest} {
		h.write("boot/vmlinuz-"+r, "not a kernel")
		h.write("boot/initrd.img-"+r, "initrd")
	}
	d, err := New(Config{Root: h.root}, h, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h.d.settle = d.settle
	h.render = func(cfg string) string { // for this disk, with a serial console
		var out strings.Builder
		for line := range strings.Lines(cfg) {
			if !strings.Contains(line, "search --no-floppy") {
				out.WriteString(line)
			}
		}
		return strings.NewReplacer("hd0,gpt3", "hd0,msdos1", "/boot/", "/", "timeout=5", "timeout=0",
			"terminal_output gfxterm", "serial --unit=0\nterminal_input serial\nterminal_output serial").Replace(out.String())
	}
	h.updateGrub()
	if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	back := "Loading Linux " + middle
	console := m.run(back)
	tried, gaveUp := strings.Index(console, "Loading Linux "+newest), strings.Index(console, "cannot load the kernel on trial")
	if tried < 0 || gaveUp < tried || strings.Index(console, back) < gaveUp {
		t.Errorf("it must try %s once, give up and boot %s; its console:\n%s", newest, middle, console)
	}
	m.mount()
	s, err := h.d.load()
	if err != nil || s.env.Get("next_entry") != "" || s.env.Get("saved_entry") == "" {
		t.Errorf("after the boot next_entry is %q, saved_entry %q, %v", s.env.Get("next_entry"), s.env.Get("saved_entry"), err)
	}
}

// The real GRUB and resolve must choose the same entry, also where that is surprising: the whole way back rests on it.
func TestRealGRUBResolvesAsWeDo(t *testing.T) {
	boot := filepath.Join(t.TempDir(), "boot")
	if err := os.Mkdir(boot, 0o755); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, boot)
	src := fixture(t, "debian-submenu.cfg") + "submenu 'a >> b' --id 'c>d' {\nmenuentry '2nd > e' --id f {\nlinux /vmlinuz-6.9-x\n}\n}\n"
	cfg, err := parseConfig(src)
	if err != nil {
		t.Fatal(err)
	}
	specs := []string{
		"", "gone", "7", "-1", "1>gone", "1st", "0x1>4", "01>010", "gnulinux-" + oldest + "-advanced-" + uuid, "c>>d>f", "a >>>> b>2nd >> e",
		stock(cfg.Menu, middle).Path,
	}
	// One boot for each: a counter in the environment block says which is next.
	var script strings.Builder
	script.WriteString("load_env\nserial --unit=0\nterminal_output serial\nset timeout=0\n")
	for i, spec := range specs {
		word := "if"
		if i > 0 {
			word = "elif"
		}
		step := strconv.Itoa(i)
		if i == 0 {
			step = ""
		}
		fmt.Fprintf(&script, "%s [ \"${step}\" = \"%s\" ]; then\nset default='%s'\nset step=%d\n", word, step, spec, i+1)
	}
	script.WriteString("else\necho ALL DONE\nfi\nsave_env step\nexport step\n")
	n := 0
	var entries func([]*Entry)
	entries = func(es []*Entry) {
		for _, e := range es {
			kind := "menuentry"
			if e.Submenu {
				kind = "submenu"
			}
			fmt.Fprintf(&script, "%s '%s' --id '%s' {\n", kind, e.Title, e.ID)
			if entries(e.Children); !e.Submenu {
				e.body = "ENTRY " + strconv.Itoa(n) + "."
				n++
				fmt.Fprintf(&script, "echo \"${step}: %s\"\nreboot\n", e.body)
			}
			script.WriteString("}\n")
		}
	}
	entries(cfg.Menu)
	for name, content := range map[string]string{"grub.cfg": script.String(), "grubenv": string(NewEnv().Bytes())} {
		if err := os.WriteFile(filepath.Join(boot, "grub", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	console := m.run("ALL DONE")
	for i, spec := range specs {
		if want := fmt.Sprintf("%d: %s", i+1, resolve(cfg.Menu, spec).body); !strings.Contains(console, want) {
			got := "nothing"
			if _, rest, ok := strings.Cut(console, fmt.Sprintf("\r%d: ", i+1)); ok {
				got, _, _ = strings.Cut(rest, ".")
			}
			t.Errorf("default=%q: we say %s, GRUB boots %s", spec, resolve(cfg.Menu, spec).body, got)
		}
	}
}

// installGRUB puts GRUB into a disk's first sector and the gap before its first partition, as grub-install does; that
// tool does not work on files.
func installGRUB(t *testing.T, disk, dir, modules string) {
	t.Helper()
	img := filepath.Join(dir, "core.img")
	must(t, "grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/grub", "-o", img, "biosdisk", "part_msdos", "ext2", "normal")
	core, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	core = append(core, make([]byte, -len(core)&511)...)
	binary.LittleEndian.PutUint64(core[0x1f4:], 2) // where its second sector is
	binary.LittleEndian.PutUint16(core[0x1fc:], uint16(len(core)/512-1))
	boot, err := os.ReadFile(filepath.Join(modules, "boot.img"))
	if err != nil {
		t.Fatal(err)
	}
	sector := make([]byte, 512)
	copy(sector, boot[:440])
	binary.LittleEndian.PutUint64(sector[0x5c:], 1) // where its first one is
	part := sector[446:]
	part[0], part[4] = 0x80, 0x83
	binary.LittleEndian.PutUint32(part[8:], 2048)
	binary.LittleEndian.PutUint32(part[12:], 64<<11)
	sector[510], sector[511] = 0x55, 0xaa
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(sector, 0)
	_, err2 := f.WriteAt(core, 512)
	if err := errors.Join(err, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
}
