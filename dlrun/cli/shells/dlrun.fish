# Completion of dlrun in fish. In ~/.config/fish/config.fish:  dlrun completion fish | source

# Asks the dlrun that was typed; nothing of the line is evaluated.
function __dlrun_complete
    set -l typed (commandline -opc | string replace -r '^~/' "$HOME/")
    set -l current (commandline -ct | string unescape)
    test (count $current) -eq 0; and set current ''
    set -l command $typed[1]
    set -e typed[1]
    command -q -- $command; or return
    for line in (command $command completion --for fish -- $typed $current 2> /dev/null)
        switch $line
            case ':folders'
                __dlrun_paths / $current
            case ':files*'
                __dlrun_paths (string replace -r '^:files ?' '' -- $line) $current
            case ':*'
            case '*'
                echo -- $line
        end
    end
end

# Folders, and the files that end in the first argument (no file ends in a slash), with what stands before them in the word.
function __dlrun_paths --argument-names suffix current
    set -l key (string match -r '^[^=/]*=' -- $current)
    set -l value (string replace -r '^[^=/]*=' '' -- $current)
    set -l start (string replace -r '^~/' "$HOME/" -- $value)
    for path in "$start"*
        set -l written "$value"(string sub -s (math (string length -- "$start") + 1) -- "$path")
        if test -d "$path"
            printf '%s%s/\n' "$key" "$written"
        else if string match -q -- "*$suffix" "$path"
            printf '%s%s\n' "$key" "$written"
        end
    end
end

complete -c dlrun -f -a '(__dlrun_complete)'
