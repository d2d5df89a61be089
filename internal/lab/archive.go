package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// An archive is the build machine's own Debian mirrors, seen through an apt with state of its own: nothing under
// /etc/apt or /var/lib/apt changes, and what other jobs do to the machine's apt does not matter.
type archive struct {
	dir   string   // lists, sources and configuration
	suite string   // bookworm
	lines []string // sources.list of the suite, its updates and its security archive
}

// openArchive reads the machine's apt configuration.
func openArchive(ctx context.Context, dir string) (*archive, error) {
	a := &archive{dir: dir, suite: osRelease("VERSION_CODENAME")}
	if id := osRelease("ID"); id != "debian" || a.suite == "" {
		return nil, &fleet.Error{
			Op: "find the guest's release", Err: fmt.Errorf("the build machine runs %q %q, not a Debian release", id, a.suite),
			Next: "run the lab on a Debian machine or in a Debian container",
		}
	}
	arch, err := run(ctx, exec.Command("dpkg", "--print-architecture"))
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(arch) != "amd64" {
		return nil, &fleet.Error{Op: "find the guest's architecture", Err: fmt.Errorf("the build machine is %s", strings.TrimSpace(arch)), Next: "run the lab on amd64"}
	}
	targets, err := run(ctx, exec.Command("apt-get", "indextargets", "Created-By: Packages"))
	if err != nil {
		return nil, err
	}
	if a.lines = sourceLines(targets, a.suite); len(a.lines) == 0 {
		return nil, &fleet.Error{
			Op: "read the apt sources", Err: fmt.Errorf("no archive of %s/main among them", a.suite),
			Next: "add the Debian mirrors to /etc/apt/sources.list",
		}
	}
	return a, a.configure(ctx)
}

// sourceLines turns `apt-get indextargets` into sources.list lines, for main of the suite, updates and security.
func sourceLines(targets, suite string) []string {
	wanted := []string{suite, suite + "-updates", suite + "-security"}
	signed := "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
	var lines []string
	for _, t := range stanzas(targets) {
		if t["Component"] != "main" || t["Architecture"] != "amd64" || !slices.Contains(wanted, t["Release"]) {
			continue
		}
		if line := "deb " + signed + t["Repo-URI"] + " " + t["Release"] + " main"; !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// configure writes the private apt's configuration, which is read after the machine's own, so proxies stay.
func (a *archive) configure(ctx context.Context) error {
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	conf := fmt.Sprintf(`#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State::lists "%[1]s/lists";
Dir::State::status "%[1]s/status";
Dir::State::extended_states "%[1]s/extended_states";
Dir::Cache::archives "%[1]s/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
`, a.dir)
	files := map[string]string{"apt.conf": conf, "status": "", "sources.list": strings.Join(a.lines, "\n") + "\n"}
	for name, text := range files {
		if err := writeFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (a *archive) apt(program string, args ...string) *exec.Cmd {
	return exec.Command(program, append([]string{"-c", filepath.Join(a.dir, "apt.conf"), "-q"}, args...)...)
}

// network is the machine's own settings for reaching mirrors (proxies, retries, clock checks), for another apt to use.
func (a *archive) network(ctx context.Context) (string, error) {
	dump, err := run(ctx, exec.Command("apt-config", "dump", "Acquire"))
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range strings.Lines(dump) {
		for _, p := range []string{"http::", "https::", "Check-", "Retries", "ForceIPv"} {
			if strings.HasPrefix(line, "Acquire::"+p) {
				out.WriteString(line)
			}
		}
	}
	return out.String(), nil
}

// kernels updates the index and lists the cloud kernels in it, without their paths.
func (a *archive) kernels(ctx context.Context) ([]Kernel, error) {
	if _, err := run(ctx, a.apt("apt-get", "update", "--error-on=any")); err != nil {
		return nil, &fleet.Error{Op: "read the archive's index", Err: err, Next: "check that apt-get update works on this machine"}
	}
	names, err := run(ctx, a.apt("apt-cache", "search", "--names-only", `^linux-image-[0-9].*-cloud-amd64$`))
	if err != nil {
		return nil, err
	}
	args := []string{"show", "--no-all-versions"}
	for line := range strings.Lines(names) {
		name, _, _ := strings.Cut(line, " ")
		if _, _, ok := series(name); ok {
			args = append(args, name)
		}
	}
	shown, err := run(ctx, a.apt("apt-cache", args...))
	if err != nil {
		return nil, err
	}
	var ks []Kernel
	for _, s := range stanzas(shown) {
		size, _ := strconv.ParseInt(s["Size"], 10, 64)
		ks = append(ks, Kernel{Package: s["Package"], Version: s["Version"], SHA256: s["SHA256"], Size: size})
	}
	return ks, nil
}

// fetch downloads the packages that are not in pool, which apt verifies, and fills in their paths.
func (a *archive) fetch(ctx context.Context, pool string, ks []Kernel) error {
	if err := os.MkdirAll(pool, 0o755); err != nil {
		return err
	}
	var need []string
	for i := range ks {
		ks[i].Path = filepath.Join(pool, ks[i].SHA256[:16]+"_"+ks[i].Release+".deb")
		if st, err := os.Stat(ks[i].Path); err != nil || st.Size() != ks[i].Size {
			need = append(need, ks[i].Package+"="+ks[i].Version)
		}
	}
	if len(need) == 0 {
		return nil
	}
	_, err := buildDir(pool, "got", func(tmp string) error {
		cmd := a.apt("apt-get", append([]string{"download"}, need...)...)
		cmd.Dir = tmp
		if _, err := run(ctx, cmd); err != nil {
			return &fleet.Error{Op: "download kernels", Err: err, Next: "check that the machine's Debian mirrors answer"}
		}
		for _, k := range ks {
			got, _ := filepath.Glob(filepath.Join(tmp, k.Package+"_*.deb"))
			if len(got) != 1 {
				continue // it was in the pool
			}
			if sum, err := fileSHA256(got[0]); err != nil || sum != k.SHA256 {
				return fmt.Errorf("download %s: checksum is %s, the index says %s: %w", k.Package, sum, k.SHA256, err)
			}
			if err := os.Rename(got[0], k.Path); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = os.RemoveAll(filepath.Join(pool, "got"))
	}
	return err
}

// stanzas parses deb822 text. Continuation lines are dropped: nothing that the lab asks for has them.
func stanzas(text string) []map[string]string {
	var out []map[string]string
	cur := map[string]string{}
	flush := func() {
		if len(cur) > 0 {
			out = append(out, cur)
			cur = map[string]string{}
		}
	}
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		if strings.TrimSpace(line) == "" {
			flush()
			continue
		}
		if key, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' && line[0] != '\t' {
			cur[key] = strings.TrimSpace(value)
		}
	}
	flush()
	return out
}
