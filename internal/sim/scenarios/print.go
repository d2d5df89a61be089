package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/internal/sim"
)

// Print writes a scenario as a file that [Parse] reads back to an equal one. What has its default is left out.
func Print(s sim.Scenario) []byte {
	var b bytes.Buffer
	printFields(&b, reflect.ValueOf(s), "")
	return b.Bytes()
}

// flowWidth is up to where a list item stands on one line, for people who compare lines.
const flowWidth = 140

func printFields(b *bytes.Buffer, v reflect.Value, indent string) {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		b.WriteString(indent + keyName(v.Type().Field(i)) + ":")
		printValue(b, f, indent)
	}
}

func printValue(b *bytes.Buffer, v reflect.Value, indent string) {
	switch {
	case v.Kind() == reflect.Struct:
		b.WriteByte('\n')
		printFields(b, v, indent+"  ")
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		b.WriteByte('\n')
		for i := range v.Len() {
			if line := "- " + flow(v.Index(i)); len(line) <= flowWidth {
				b.WriteString(indent + "  " + line + "\n")
				continue
			}
			var item bytes.Buffer
			printFields(&item, v.Index(i), indent+"    ")
			b.WriteString(indent + "  - " + strings.TrimLeft(item.String(), " "))
		}
	default:
		b.WriteString(" " + flow(v) + "\n")
	}
}

// flow prints a value on one line.
func flow(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return sim.Short(time.Duration(v.Int()))
	case v.Kind() == reflect.Pointer:
		return flow(v.Elem())
	}
	var parts []string
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				parts = append(parts, keyName(v.Type().Field(i))+": "+flow(f))
			}
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, flow(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.String:
		return quote(v.String())
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	}
	return fmt.Sprint(v.Interface())
}

var plain = regexp.MustCompile(`^[a-z][a-z0-9-]*[a-z0-9](:[a-z]+)?$`)

// quote leaves words as they are and puts everything else in double quotes.
func quote(s string) string {
	switch s {
	case "true", "false", "null", "yes", "no", "on", "off":
	default:
		if plain.MatchString(s) {
			return s
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b) // a JSON text is a YAML text
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // texts always encode
	}
	return strings.TrimRight(b.String(), "\n")
}
