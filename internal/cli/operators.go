package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

func (a *app) operatorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "operator", Short: "let people and programs in, and take it back"}
	cmd.AddCommand(a.operatorCreateCommand(), a.operatorListCommand(), a.operatorDeleteCommand())
	return cmd
}

func (a *app) operatorCreateCommand() *cobra.Command {
	var role, file string
	var life time.Duration
	cmd := &cobra.Command{
		Use: "create NAME", Short: "make an operator, and print the token once",
		Long: `Makes an operator. The roles: viewer reads everything; operator also rolls, stops, and takes hosts
out and in; admin also lets machines and people in and throws them out.`,
		Example: "  kernwave operator create ada --role admin --token-out ada.token\n  kernwave operator create ci --role viewer --life 720h",
		Args:    arguments("NAME"), ValidArgsFunction: a.completeNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !operator.Role(role).Known() {
				return &usageError{fmt.Sprintf("unknown role %q", role), "use --role viewer, operator or admin"}
			}
			if life < 0 {
				return &usageError{"--life must not be negative", "leave it out for a token without end"}
			}
			if file != "" {
				if _, err := os.Lstat(file); err == nil {
					return &usageError{file + " is already there", "name a file that does not exist yet"}
				}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			req := &kwv1.CreateOperatorRequest{Name: args[0], Role: role}
			if life > 0 {
				req.Life = durationpb.New(life)
			}
			res, err := call(cmd.Context(), a, c.fleet.CreateOperator, req)
			if err != nil {
				return err
			}
			return a.giveToken(args[0], role, res.GetToken(), file)
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "viewer, operator or admin (required)")
	cmd.Flags().DurationVar(&life, "life", 0, "how long the token is good (default: without end)")
	cmd.Flags().StringVar(&file, "token-out", "", "write the token to this new `FILE` instead of printing it")
	a.flagNames(cmd, "role", fixed(string(operator.RoleViewer), string(operator.RoleOperator), string(operator.RoleAdmin)))
	return cmd
}

// giveToken hands out a token that is not shown again.
func (a *app) giveToken(name, role, token, file string) error {
	if file != "" {
		if err := writeSecret(file, []byte(token+"\n")); err != nil {
			// The token must not be lost: it cannot be asked for again.
			a.warn("the token is printed because it could not be kept in a file: " + err.Error())
			file = ""
		} else {
			token = ""
		}
	}
	switch {
	case a.json():
		return printJSON(a.Out, "operator_token", struct {
			Name  string `json:"name"`
			Role  string `json:"role"`
			Token string `json:"token,omitempty"`
			File  string `json:"token_file,omitempty"`
		}{name, role, token, file})
	case token != "":
		if _, err := fmt.Fprintln(a.Out, clean(token)); err != nil {
			return err
		}
		a.note(fmt.Sprintf("this token is %s's (%s), and is not shown again", name, role), "keep it in a file that only they can read; \"kernwave help connection\" says how it is used")
	case !a.quiet:
		fmt.Fprintf(a.Out, "the token of %s (%s) is in %s\n", clean(name), role, clean(file))
	}
	return nil
}

// writeSecret makes a new file that only its owner can read.
func writeSecret(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return plainPathError(err)
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func (a *app) operatorListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the operators", Args: arguments(), Example: "  kernwave operator list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.listOperators(cmd)
			if err != nil {
				return err
			}
			if a.json() {
				return printJSON(a.Out, "operators", map[string]any{"operators": list})
			}
			t := &table{head: []string{"OPERATOR", "ROLE", "CREATED", "EXPIRES"}}
			p := a.paletteFor(a.Out)
			for _, o := range list {
				expires := "never"
				switch {
				case o.ExpiresAt.IsZero():
				case o.ExpiresAt.After(a.Now()):
					expires = timeText(o.ExpiresAt)
				default:
					expires = p.warn("expired " + ago(o.ExpiresAt, a.Now()))
				}
				t.add(clean(o.Name), clean(string(o.Role)), timeText(o.CreatedAt), expires)
			}
			return a.printList(t)
		},
	}
}

func (a *app) listOperators(cmd *cobra.Command) ([]operator.Account, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	res, err := call(cmd.Context(), a, c.fleet.ListOperators, &kwv1.ListOperatorsRequest{})
	if err != nil {
		return nil, err
	}
	return each(res.GetOperators(), wire.AccountFromProto), nil
}

func (a *app) operatorDeleteCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "delete an operator: the token is worth nothing from now on",
		Example: "  kernwave operator delete ci --yes",
		Args:    arguments("NAME"), ValidArgsFunction: a.completeNames(a.operatorNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := a.confirm(cmd, yes, "The token of "+args[0]+" will be worth nothing."); err != nil {
				return err
			}
			if _, err := call(cmd.Context(), a, c.fleet.DeleteOperator, &kwv1.DeleteOperatorRequest{Name: args[0]}); err != nil {
				return a.didYouMean(cmd.Context(), err, args[0], "kernwave operator list", a.operatorNames)
			}
			switch {
			case a.json():
				return printJSON(a.Out, "operator_deleted", map[string]any{"name": args[0]})
			case !a.quiet:
				fmt.Fprintf(a.Out, "%s is deleted\n", clean(args[0]))
			}
			return nil
		},
	}
	confirmFlag(cmd, &yes)
	return cmd
}
