# `rank`: the pid of a rank that lives on this node, if one does: a process with MLX_RANK in its
# environment. Root sees all of them, others their own. One of another network (a container's) has
# other interfaces and ports.
rank() {
  if [ -d /proc/self ]; then # linux
    for at in $(grep -lasz '^MLX_RANK=[0-9]' /proc/[0-9]*/environ); do
      at=${at%/environ}
      [ /proc/self/ns/net -ef "$at/ns/net" ] || continue
      printf '%s\n' "${at#/proc/}"
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
