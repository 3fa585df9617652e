"""How the screen looks: on a narrow terminal one panel, on a wide one all of them;
on a low one hardly more than that."""

from typing import Final

STYLE: Final = """
Screen { layout: vertical; overflow: hidden; }
#head { height: auto; padding: 0 1; background: $primary-background; }
#tabs { height: 1; padding: 0 1; }
#panels { height: 1fr; }
#side { width: 64; display: none; }
#main { width: 1fr; }
Panel { height: 1fr; display: none; }
Panel.-active { display: block; }
Panel DataTable { height: 1fr; background: $background; scrollbar-size: 1 1; }
Panel .words { height: auto; max-height: 6; padding: 0 1; color: $text-muted; }
#filtering { height: 1; padding: 0 1; display: none; }
#filtering.-open { display: block; }
#filter { width: 1fr; height: 1; border: none; padding: 0 1; }
#label, #hint { width: auto; }
#found { height: 1; padding: 0 1; display: none; }
#found.-said { display: block; }
Screen.-wide #tabs { display: none; }
Screen.-wide #side { display: block; border-right: solid $primary-background-lighten-2; }
Screen.-wide Panel { display: block; border-top: solid $primary-background-lighten-2; }
Screen.-low #tabs { display: none; }
Screen.-low #head { max-height: 1; }
Screen.-low Panel .words { max-height: 1; }
Panel { border-title-style: bold; }
Screen.-wide Panel:focus-within { border-top: solid $accent; }
Help, Block { align: center middle; }
#help, #block { width: 70; max-width: 100%; height: auto; max-height: 100%; }
#help, #block { padding: 0 2; overflow-y: auto; }
#help { border: round $accent; background: $surface; }
#block { border: round $warning; background: $surface; }
#block Input { height: 1; border: none; }
#block .label { margin-top: 1; }
"""
