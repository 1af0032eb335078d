# Completion of dlrun in bash. In ~/.bashrc:  source <(dlrun completion bash)

# Asks the dlrun that was typed; nothing of the line is evaluated. bash cuts words at = : @, so what stands together is joined again.
_dlrun() {
    local rest=${COMP_LINE:0:COMP_POINT} words=() last=-1 i piece='' current cut command text note path
    COMPREPLY=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        if ((last < 0)) || [[ $rest == [[:space:]]* ]]; then
            rest=${rest#"${rest%%[![:space:]]*}"}
            words[++last]=''
        fi
        if ((${#piece} > ${#rest})); then piece=$rest; fi
        words[last]+=$piece
        rest=${rest#"$piece"}
    done
    current=${words[last]}
    if [[ $piece == *[!=:@]* ]]; then cut=${current%"$piece"}; else cut=$current piece=''; fi
    command=${words[0]//[\"\'\\]/}
    if [[ $command == '~/'* ]]; then command=$HOME/${command#'~/'}; fi
    if ! type -t -- "$command" > /dev/null; then return; fi
    while IFS=$'\t' read -r text note; do
        case $text in
            :nospace) compopt -o nospace 2> /dev/null ;;
            :paths) compopt -o filenames 2> /dev/null ;;
            :files* | :folders) _dlrun_paths "$text" "$piece" ;;
            *) COMPREPLY+=("${text#"$cut"}") ;;
        esac
    done < <("$command" completion --for bash -- "${words[@]:1}" 2> /dev/null)
}

# Folders, and with ":files SUFFIX" the files that end in it, as bash itself completes and quotes them.
_dlrun_paths() {
    local path prefix=${2#[\"\']}
    prefix=${prefix//\\/}
    compopt -o filenames 2> /dev/null
    while IFS= read -r path; do COMPREPLY+=("$path"); done < <(compgen -d -- "$prefix")
    if [[ $1 == :files* ]]; then
        while IFS= read -r path; do
            if [[ ! -d $path && $path == *"${1#:files }" ]]; then COMPREPLY+=("$path"); fi
        done < <(compgen -f -- "$prefix")
    fi
}

complete -F _dlrun dlrun
