# `rank`: the pid of a rank that lives on this node, if one does: a process with MLX_RANK in its
# environment. Root sees all of them, others their own.
rank() {
  if [ -d /proc/self ]; then # linux
    for at in $(grep -lasz '^MLX_RANK=[0-9]' /proc/[0-9]*/environ); do
      at=${at#/proc/}
      printf '%s\n' "${at%/environ}"
      return
    done
  else
    # ps shows the arguments before: mlx.launch and its ssh have the same words there.
    ps axwwE -o pid=,command= | grep ' MLX_RANK=[0-9]' | while read -r at words; do
      arguments=$(ps -ww -o command= -p "$at")
      case ${words#"$arguments"} in *' MLX_RANK='[0-9]*) printf '%s\n' "$at"; break ;; esac
    done
  fi
}
