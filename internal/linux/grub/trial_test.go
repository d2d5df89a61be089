package grub

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTrialEntryIsTheStockOneWithMoreOnItsCommandLine(t *testing.T) {
	for _, f := range []string{"debian-submenu.cfg", "debian-flat-saved.cfg", "debian-savedefault.cfg", "ubuntu.cfg"} {
		src := fixture(t, f)
		cfg, err := parseConfig(src)
		if err != nil {
			t.Fatal(err)
		}
		s := stock(cfg.Menu, newest)
		text, err := trialEntry(s, []string{"panic=30", "kernwave.trial=op-1"})
		if err != nil {
			t.Fatal(err)
		}
		with, err := parseConfig(src + text)
		if err != nil {
			t.Fatal(err)
		}
		e := resolve(with.Menu, TrialID)
		if e.ID != TrialID || e.Release != newest || e.Kernel != s.Kernel || e.SavesDefault || len(e.Initrds) != 1 {
			t.Errorf("%s: %+v", f, e)
		}
		if stock(with.Menu, newest).Path != s.Path {
			t.Errorf("%s: the stock entry is now %s", f, stock(with.Menu, newest).Path)
		}
		if !strings.Contains(text, " panic=30 kernwave.trial=op-1 ; then") {
			t.Errorf("%s: the arguments are not last:\n%s", f, text)
		}
		if strings.Contains(text, "recordfail") {
			t.Errorf("%s: kept recordfail", f)
		}
		scriptCheck(t, src+text)
	}
}

func TestTrialEntryBeforeTheArgumentsOfInit(t *testing.T) {
	cfg, err := parseConfig("menuentry 'Linux 6.1-x' --users '' --unrestricted {\n linux /vmlinuz-6.1-x ro quiet -- single-arg\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	text, err := trialEntry(cfg.Menu[0], []string{"panic=30"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "linux /vmlinuz-6.1-x ro quiet panic=30 -- single-arg ;") || !strings.Contains(text, "--users '' --unrestricted") && !strings.Contains(text, "--unrestricted") {
		t.Errorf("got\n%s", text)
	}
	scriptCheck(t, text)
}

func TestEntriesThatCannotBeCopied(t *testing.T) {
	for _, body := range []string{
		"if true; then linux /vmlinuz-6.1-x ro; fi\n",
		"linux /vmlinuz-6.1-x ro; initrd /i\n",
		"linux /vmlinuz-6.1-x ro\nlinux /vmlinuz-6.1-x ro\n",
		"linux /vmlinuz-6.1-x \\\n ro\n",
	} {
		cfg, err := parseConfig("menuentry 'Linux 6.1-x' {\n" + body + "}\n")
		if err != nil {
			t.Fatal(err)
		}
		if text, err := trialEntry(cfg.Menu[0], []string{"panic=30"}); err == nil {
			t.Errorf("%q was copied:\n%s", body, text)
		}
	}
	cfg, _ := parseConfig(fixture(t, "ubuntu.cfg"))
	for _, arg := range []string{"a b", "a'b", "a;b", "", "a\nb", "${x}"} {
		if _, err := trialEntry(stock(cfg.Menu, newest), []string{arg}); err == nil {
			t.Errorf("argument %q was accepted", arg)
		}
	}
}

func TestTrialScriptIsWhatTheParserLooksFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "42_kernwave")
	if err := os.WriteFile(path, []byte(trialScript), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path).Output()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := parseConfig(fixture(t, "debian-submenu.cfg") + string(out))
	if err != nil || !cfg.SourcesTrial {
		t.Errorf("%v, %+v", err, cfg.SourcesTrial)
	}
	scriptCheck(t, string(out))
}

// scriptCheck has GRUB's own parser look at a script.
func scriptCheck(t *testing.T, script string) {
	t.Helper()
	if _, err := exec.LookPath("grub-script-check"); err != nil {
		t.Log("grub-script-check (package grub-common) is not installed: the syntax was only read by our own parser")
		return
	}
	cmd := exec.Command("grub-script-check")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("GRUB does not read it: %v: %s\n%s", err, out, script)
	}
}
