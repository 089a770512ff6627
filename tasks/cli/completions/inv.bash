_inv_complete() {
  local IFS=$'\n' words=("${COMP_WORDS[@]:0:COMP_CWORD+1}")
  # shellcheck disable=SC2207 # bash 3.2, which is that of macOS, has no mapfile
  COMPREPLY=($(compgen -W "$(inv --complete -- "${words[@]}" 2>/dev/null)" -- "$2"))
}
complete -o default -F _inv_complete inv invoke
