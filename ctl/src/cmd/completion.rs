//! `completion`: scripts that let shells complete commands by asking `rctl __complete`.

use crate::cli::{Args, Call, Command};
use crate::error::Result;

const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// The command.
pub static COMMAND: Command = Command {
    name: "completion",
    short: "Output shell completion code for the specified shell (bash, zsh, fish, or powershell)",
    long: "Output shell completion code for the specified shell (bash, zsh, fish, or powershell). The shell code must be evaluated to provide interactive completion of rctl commands.",
    examples: "
        # For this shell
        source <({} completion bash)

        # For all of zsh's to come
        {} completion zsh > ~/.zsh/completions/_rctl",
    usage: "SHELL",
    args: Args::Words(SHELLS),
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    match call.args.as_slice() {
        [] => Err(call.usage("Shell not specified.")),
        [one] => match one.as_str() {
            "bash" => {
                crate::out::print(BASH);
                Ok(())
            }
            "zsh" => {
                crate::out::print(ZSH);
                Ok(())
            }
            "fish" => {
                crate::out::print(FISH);
                Ok(())
            }
            "powershell" => {
                crate::out::print(POWERSHELL);
                Ok(())
            }
            other => Err(call.usage(format!("Unsupported shell type {other:?}."))),
        },
        _ => Err(call.usage("Too many arguments. Expected only the shell type.")),
    }
}

const BASH: &str = r#"# bash completion for rctl

__start_rctl() {
    local out directive line cur
    local IFS=$'\n'
    COMPREPLY=()
    cur="${COMP_WORDS[COMP_CWORD]}"
    # Words as they were typed, not as COMP_WORDBREAKS splits them.
    local before="${COMP_LINE:0:COMP_POINT}"
    local -a words
    local saved="$IFS"
    IFS=$' \t' read -r -a words <<< "$before"
    IFS="$saved"
    if [[ "$before" == *[[:space:]] ]]; then words+=(""); fi
    out="$("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)" || return
    directive="${out##*:}"
    out="${out%:*}"
    local last="${words[${#words[@]}-1]}"
    # What stands before the part that bash completes must not be repeated.
    local prefix=""
    if [[ "$last" == *[:=]* && "$COMP_WORDBREAKS" == *[:=]* ]]; then prefix="${last%"${last##*[:=]}"}"; fi
    while IFS='' read -r line; do
        line="${line%%$'\t'*}"
        [[ -z "$line" ]] && continue
        COMPREPLY+=("${line#"$prefix"}")
    done <<< "$out"
    if (( directive & 2 )); then compopt -o nospace 2>/dev/null; fi
    if (( ${#COMPREPLY[@]} == 0 )) && (( (directive & 4) == 0 )); then
        compopt -o default 2>/dev/null
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}

complete -F __start_rctl rctl
"#;

const ZSH: &str = r#"#compdef rctl
# zsh completion for rctl

_rctl() {
    local out directive line
    local -a completions
    out="$(${words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)" || return
    directive="${out##*:}"
    while IFS='' read -r line; do
        [[ "$line" == :* || -z "$line" ]] && continue
        local word="${line%%$'\t'*}" about=""
        [[ "$line" == *$'\t'* ]] && about="${line#*$'\t'}"
        word="${word//:/\\:}"
        if [[ -n "$about" ]]; then completions+=("${word}:${about}"); else completions+=("$word"); fi
    done <<< "$out"
    if (( ${#completions} )); then
        if (( directive & 2 )); then _describe 'rctl' completions -S ''; else _describe 'rctl' completions; fi
    elif (( (directive & 4) == 0 )); then
        _files
    fi
}

if [ "$funcstack[1]" = "_rctl" ]; then
    _rctl
else
    compdef _rctl rctl
fi
"#;

const FISH: &str = r#"# fish completion for rctl

function __rctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    $words[1] __complete $words[2..-1] "$current" 2>/dev/null | string match -v -r '^:'
end

complete -c rctl -e
complete -c rctl -f -a '(__rctl_complete)'
complete -c rctl -s f -l filename -r -F
"#;

const POWERSHELL: &str = r#"# powershell completion for rctl

Register-ArgumentCompleter -CommandName 'rctl' -ScriptBlock {
    param($WordToComplete, $CommandAst, $CursorPosition)
    $Words = @($CommandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    if ($WordToComplete -eq '') { $Words += '""' }
    $Out = & rctl __complete @Words 2>$null
    $Out | Where-Object { $_ -notmatch '^:' } | ForEach-Object {
        $Name, $About = $_.Split("`t", 2)
        if (-not $About) { $About = $Name }
        [System.Management.Automation.CompletionResult]::new($Name, $Name, 'ParameterValue', $About)
    }
}
"#;
