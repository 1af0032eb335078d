"""Probes: measurements on trained runs, `dlrun probe RUN... NAME`; one a file."""
