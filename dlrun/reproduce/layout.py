"""How an experiment's figure is laid out: verdict, what the lines are, panels with their events, what has to be said, claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dlrun.claims.evidence import SeedEvidence
from dlrun.reproduce.bands import Mark, events_of
from dlrun.reproduce.dots import note_of, row_name, rows_of
from dlrun.reproduce.marking import Lane, lanes, mark_events
from dlrun.reproduce.painting import bands_of, nothing, paint
from dlrun.reproduce.paper import LEADING, MARGIN, MONO, Paper, width_of
from dlrun.reproduce.scene import NOTE, SMALL, Look, Scene, hues
from dlrun.reproduce.sheet import Sheet
from dlrun.reproduce.shown import Panel, values_at
from dlrun.reproduce.words import claim_words
from dlrun.sinks.terminal import clip

WIDE = 7.5
LEFT, RIGHT, GAP, BELOW, TITLE = 0.62, 0.12, 0.06, 0.46, 0.22
COLOURS_OF = {"met": "#00704f", "not_met": "#b34700", "undecided": "#666666"}
COLOURS_OF |= {"reproduced": COLOURS_OF["met"], "not_reproduced": COLOURS_OF["not_met"]}
SIGNS = {"met": "✓", "not_met": "✗", "undecided": "?"}
QUIET = "#555555"


class Picture:
    """One picture with some of the panels."""

    def __init__(
        self, sheet: Sheet, evidence: Sequence[SeedEvidence], found: Mapping[str, Any], panels: Sequence[Panel], *, with_claims: bool
    ) -> None:
        self.sheet, self.found, self.panels, self.with_claims = sheet, found, panels, with_claims
        self.events = events_of(evidence, tuple(sheet.config.get("events") or {}), sheet.arms)
        self.scene = Scene(sheet, evidence, self.events, sheet.figure.get("log") or [])

    def draw(self, figure: Figure) -> None:
        """Everything but the title."""
        self.paper = Paper(figure, WIDE, 0.3)
        self._head()
        self._legend()
        self.drawn: list[tuple[Panel, Any]] = []
        self._panels()
        self._share()
        self._caption()
        if self.with_claims:
            self._claims()
        self.paper.finish()

    def _head(self) -> None:
        verdict = str(self.found["verdict"])
        word = verdict.replace("_", " ")
        self.paper.text(WIDE - MARGIN, MARGIN, word, 10, ha="right", fontweight="bold", color=COLOURS_OF[verdict])
        if source := self.sheet.config.get("source"):
            self.paper.paragraph(f"Source: {source}", SMALL, color=QUIET)
        self.paper.y += 0.08

    # -- what the lines are

    def _legend(self) -> None:
        owners, points = self._owners(), self._points()
        for entries in [owners, points] if len(owners) > 1 else [points]:
            if entries:
                self._entries(entries)

    def _entries(self, entries: Sequence[tuple[str, Look]]) -> None:
        x, size = MARGIN, 8.0
        for text, look in entries:
            wide = 0.36 + width_of(text, size) + 0.2
            if x + wide > WIDE and x > MARGIN:
                x, self.paper.y = MARGIN, self.paper.y + 0.18
            marker = {} if look.marker == "" else {"marker": look.marker, "ms": 4}
            self.paper.line(x, x + 0.3, self.paper.y + 0.07, color=look.colour, ls=look.style, lw=1.8, **marker)
            self.paper.text(x + 0.36, self.paper.y + 0.005, text, size)
            x += wide
        self.paper.y += 0.22

    def _owners(self) -> list[tuple[str, Look]]:
        """Arms or measures that have a line; rows of points carry their names beside them."""
        lined = [panel for panel in self.panels if panel.form != "dots" and not (panel.form == "axis" and len(panel.points) > 1)]
        names = [name for name in self.scene.owners if any(name in panel.owners for panel in lined)]
        marked = any(panel.form in ("axis", "best", "numbered") for panel in lined)
        looks = [(clip(name, 40), self.scene.look(name)) for name in names]
        return [(name, look if marked else Look(look.colour, look.style, "")) for name, look in looks]

    def _points(self) -> list[tuple[str, Look]]:
        """The points that lines of one arm differ by: all where they are few, else some of them."""
        found: dict[str, Look] = {}
        for panel in self.panels:
            if len(panel.points) == 1 or panel.form not in ("axis", "curves", "numbered"):
                continue
            every = max(1, -(-len(panel.points) // 8))
            for point in panel.points[::every]:
                text = row_name("run", point)
                look = hues(panel)[point] if panel.form == "axis" else self.scene.shaded(panel.owners[0], panel.points, point)
                found.setdefault(text, look if panel.form == "axis" else Look(look.colour, look.style, ""))
        return [(clip(text, 40), look) for text, look in found.items()]

    # -- panels

    def _panels(self) -> None:
        lines = [panel for panel in self.panels if panel.form != "dots"]
        dots = [panel for panel in self.panels if panel.form == "dots"]
        across = {1: 1, 2: 2, 4: 2}.get(len(lines), 3)
        for start in range(0, len(lines), across):
            self._row(lines[start : start + across], across)
        rows = [(panel, row) for panel in dots for row in rows_of(panel)]
        names = max((width_of(clip(row_name(*row), 22), 8) for _, row in rows), default=0.0) + 0.15
        notes = max((width_of(note_of(values_at(panel, self.scene.evidence, *row)), NOTE) for panel, row in rows), default=0.0) + 0.15
        beside = 2 if len(dots) > 1 and names + notes < 2.4 else 1
        for start in range(0, len(dots), beside):
            self._row_of_dots(dots[start : start + beside], beside, names, notes)

    def _row(self, panels: Sequence[Panel], across: int) -> None:
        wide = (WIDE - 2 * MARGIN - GAP * (across - 1)) / across
        inside = wide - LEFT - RIGHT
        high = {1: 2.9, 2: 2.35, 3: 2.0}[across]
        ends = self._ends(panels)
        marks = {panel: self._lanes(panel, ends, inside) for panel in panels}
        above = TITLE + max([0.0, *(lane.height for lane in marks.values())])
        for i, panel in enumerate(panels):
            left = MARGIN + i * (wide + GAP) + LEFT
            axes = self.paper.axes(left, self.paper.y + above, inside, high)
            self.paper.text(left - LEFT, self.paper.y, clip(panel.title, int(wide * 14)), 9, fontweight="bold")
            if panel.form == "curves" and not bands_of(panel, self.scene):
                nothing(axes, f"no run there has logged\n{clip(panel.quantity.name, 60)}")
                continue
            self.scene.inches = (0.9 * inside, 0.9 * high)
            paint(axes, panel, self.scene, ends)
            self.drawn.append((panel, axes))
            mark_events(axes, marks[panel], self.scene, inside, high)
        self.paper.y += above + high + BELOW

    def _share(self) -> None:
        """Panels that show one metric of several splits or arms get the same ends."""
        groups: dict[Any, list[Any]] = {}
        for panel, axes in self.drawn:
            key = (panel.form, panel.quantity.name.rpartition("/")[2], panel.quantity.kind, axes.get_yscale())
            groups.setdefault(key, []).append(axes)
        for (form, *_), group in groups.items():
            ends = [axes.get_ylim() for axes in group]
            for axes in group if form != "best" else []:
                axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))

    def _ends(self, panels: Sequence[Panel]) -> tuple[float, float]:
        """Of the step axis."""
        found = [one for panel in panels if panel.form == "curves" for one in bands_of(panel, self.scene).values()]
        last = max((one.last for one in found), default=1.0) or 1.0
        if "x" not in self.scene.logs:
            return self.scene.start - 0.01 * (last - self.scene.start), last
        starts = [float(steps[0]) for one in found for steps in (one.steps, *(lone.steps for lone in one.alone)) if len(steps)]
        return min(starts, default=1.0), last * 1.03

    def _lanes(self, panel: Panel, ends: tuple[float, float], inside: float) -> Lane:
        marks: Sequence[Mark] = self.events.marks if panel.form == "curves" else []
        return lanes(marks, ends, "x" in self.scene.logs, inside)

    def _row_of_dots(self, panels: Sequence[Panel], across: int, names: float, notes: float) -> None:
        wide = (WIDE - 2 * MARGIN - GAP * (across - 1)) / across
        most = max(len(rows_of(panel)) for panel in panels)
        for i, panel in enumerate(panels):
            high = max(0.22 * len(rows_of(panel)), 0.3)
            left = MARGIN + i * (wide + GAP)
            axes = self.paper.axes(left + names, self.paper.y + TITLE, wide - names - notes, high)
            self.paper.text(left, self.paper.y, clip(panel.title, int(wide * 14)), 9, fontweight="bold")
            paint(axes, panel, self.scene, (0, 1))
        self.paper.y += TITLE + max(0.22 * most, 0.3) + BELOW - 0.1

    # -- what is said below

    def _caption(self) -> None:
        for event in dict.fromkeys(event for event, _ in self.events.never):
            arms = [arm for name, arm in self.events.never if name == event]
            where = "in no run" if len(arms) == len(self.sheet.arms) else f"in no run of {', '.join(arms)}"
            if any(panel.form == "curves" for panel in self.panels):
                self.scene.say(f"{event} happened {where}.")
        if not self.panels:
            self.scene.say("The claims read nothing that could be drawn.")
        self.paper.paragraph(" ".join(self.scene.said), SMALL, color=QUIET)
        self.paper.y += 0.06

    def _claims(self) -> None:
        self.paper.line(MARGIN, WIDE - MARGIN, self.paper.y + 0.02, color="0.75", lw=0.8)
        self.paper.y += 0.1
        for claim in self.found["claims"]:
            word = f"{SIGNS[claim['verdict']]} {claim['verdict'].replace('_', ' ')}"
            self.paper.text(MARGIN, self.paper.y, word, 8, fontweight="bold", color=COLOURS_OF[claim["verdict"]])
            if claim.get("control"):
                self.paper.text(MARGIN + 0.15, self.paper.y + LEADING * 8 / 72, "(control)", SMALL, color=QUIET)
            self.paper.paragraph(claim["claim"], SMALL, 1.0, family=MONO)
            self.paper.paragraph(claim_words(claim), SMALL, 1.0, color=QUIET)
            self.paper.y += 0.07
