package cli

// Exit codes. They are promised: scripts depend on them.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitPaused      = 3
	ExitUnreachable = 4
	ExitInterrupted = 130
)

// exitCodesText is the help topic, and a chapter of the reference.
const exitCodesText = `Exit codes of kernwave:

    0   it was done. "rollout watch": the rollout is done
    1   it was refused, or it failed. "rollout watch": the rollout was aborted
        or rolled back. "sim run": a promise was broken. "judge": a line of the
        cases is wrong, the others were judged
    2   the command line, the settings or the scenario are wrong: nothing was
        sent
    3   "rollout watch --until-paused": the rollout is paused
    4   the control plane could not be reached, or could not answer now: it is
        not known what became of the request. Asking, stopping, and starting a
        rollout under the same key can be repeated; else look first
  130   interrupted (Ctrl-C). A rollout that was being watched goes on

What went wrong stands on standard error, in two lines: what happened, and what to
do next. With -o json it is one JSON object there, of kind "error".`

// quietExit ends with a code and nothing printed: what there was to say stands on the standard output.
type quietExit int

func (quietExit) Error() string { return "" }
