package grub

import (
	"fmt"
	"strings"
)

// config is what grub.cfg says about the next boot.
type config struct {
	Menu []*Entry
	// LoadsEnv says that GRUB reads the environment block.
	LoadsEnv bool
	// HonoursNext says that next_entry is booted once: read, cleared and saved before anything is booted.
	HonoursNext bool
	// HonoursSaved says that without next_entry the default is saved_entry. Otherwise it is Default.
	HonoursSaved bool
	Default      string
	// NeverTimesOut says that the menu may wait for a person.
	NeverTimesOut bool
	// SourcesTrial says that kernwave.cfg is read as part of the menu.
	SourcesTrial bool
	// Surprises are things that decide about the default in a way that this package does not know.
	Surprises []string
}

// parseConfig reads grub.cfg.
func parseConfig(src string) (config, error) {
	cs, err := parseScript(src)
	if err != nil {
		return config{}, fmt.Errorf("read grub.cfg: %w", err)
	}
	c := config{Menu: menuOf(cs, "")}
	if len(c.Menu) == 0 {
		return config{}, fmt.Errorf("read grub.cfg: it has no menu entries")
	}
	var uses, clears, saves bool
	for _, cmd := range cs {
		inNext := len(cmd.under) == 1 && isNextEntryTest(cmd.under[0].cond) && !cmd.under[0].elifSeen
		name, value, isSet := assignment(cmd.words)
		switch {
		case cmd.words[0] == "load_env" && len(cmd.words) == 1:
			c.LoadsEnv = true
		case cmd.words[0] == "blscfg":
			c.Surprises = append(c.Surprises, "its entries are boot loader specification files (blscfg)")
		case cmd.words[0] == "source" && strings.Contains(strings.Join(cmd.words, " "), trialFile):
			c.SourcesTrial = true
		case cmd.words[0] == "save_env" && len(cmd.words) == 2 && cmd.words[1] == "next_entry":
			saves = saves || inNext && !cmd.under[0].isElse
		case isSet && name == "next_entry" && value == "":
			clears = clears || inNext && !cmd.under[0].isElse
		case isSet && name == "timeout" && strings.HasPrefix(value, "-"):
			c.NeverTimesOut = true
		case isSet && name == "default" && inNext && !cmd.under[0].isElse && isVariable(value, "next_entry"):
			uses = true
		case isSet && name == "default" && inNext && cmd.under[0].isElse:
			c.Default = value
			c.HonoursSaved = isVariable(value, "saved_entry")
		case isSet && name == "default" && len(cmd.under) == 1 && strings.Contains(cmd.under[0].cond, "$default"):
			// grub-mkconfig's translation of a title in the old style; an id is none.
		case isSet && name == "default":
			c.Surprises = append(c.Surprises, "it sets default="+value+" where this driver does not expect it")
		}
	}
	c.HonoursNext = uses && clears && saves
	return c, nil
}

// isNextEntryTest recognises [ "${next_entry}" ].
func isNextEntryTest(cond string) bool {
	f := strings.Fields(cond)
	return len(f) == 3 && f[0] == "[" && isVariable(f[1], "next_entry") && f[2] == "]"
}

func isVariable(s, name string) bool { return s == "${"+name+"}" || s == "$"+name }

// assignment recognises set a=b and a=b.
func assignment(words []string) (name, value string, ok bool) {
	if words[0] == "set" && len(words) == 2 {
		words = words[1:]
	}
	if len(words) != 1 {
		return "", "", false
	}
	name, value, ok = strings.Cut(words[0], "=")
	return name, value, ok && name != "" && !strings.ContainsAny(name, "$ ")
}
