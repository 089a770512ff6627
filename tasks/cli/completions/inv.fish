function __inv_complete
  set -l word (commandline -ct)
  inv --complete -- (commandline -opc) "$word" 2>/dev/null
end
complete -c inv -f -a '(__inv_complete)'
complete -c invoke -f -a '(__inv_complete)'
