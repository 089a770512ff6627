_inv_complete() {
  local -a found
  found=("${(@f)$(inv --complete -- "${(@)words[1,CURRENT]}" 2>/dev/null)}")
  compadd -a found || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u }
compdef _inv_complete inv invoke
