package command

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRunReturnsOutputAndExplainsFailure(t *testing.T) {
	out, err := Exec{}.Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo out; echo $LC_ALL; echo err >&2"}})
	if err != nil || out != "out\nC\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	out, err = Exec{}.Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo half; echo why >&2; exit 3"}})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != 3 || out != "half\n" || !strings.Contains(err.Error(), "exit code 3") || !strings.Contains(err.Error(), "why") {
		t.Fatalf("got %q, %v", out, err)
	}
	out, err = Exec{}.Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo a; echo b >&2; echo c"}, Both: true})
	if err != nil || out != "a\nb\nc\n" {
		t.Fatalf("both outputs: %q, %v", out, err)
	}
	if _, err := (Exec{}).Run(t.Context(), Cmd{Name: "kernwave-no-such-program"}); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Fatalf("a missing program gave %v", err)
	}
}

func TestTimeoutEndsTheProgramAndItsChildren(t *testing.T) {
	start := time.Now()
	_, err := Exec{}.Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "sleep 60 & sleep 60"}, Timeout: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "still running after 50ms") {
		t.Fatalf("got %v", err)
	}
	if time.Since(start) > 20*time.Second {
		t.Fatal("the children were waited for")
	}
}

func TestAProgramThatMustFinishOutlivesItsCaller(t *testing.T) {
	done, began := filepath.Join(t.TempDir(), "done"), filepath.Join(t.TempDir(), "began")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // cancels once the program is under way
		for {
			if _, err := os.Stat(began); err == nil || ctx.Err() != nil {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	script := "touch " + began + "; sleep 0.2; touch " + done
	if _, err := (Exec{}).Run(ctx, Cmd{Name: "sh", Args: []string{"-c", script}, Finish: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(done); err != nil {
		t.Fatal("the program was cut short")
	}
	if _, err := (Exec{}).Run(ctx, Cmd{Name: "true", Finish: true}); err == nil {
		t.Fatal("a program was begun although its caller had gone")
	}
}
