"""The thresholds of reading order in one table, by phase.

Each line has a name, a value, its unit and meaning, and a page that depends on it. The text of that page changes when
the value is a fifth smaller or a quarter larger (whole numbers: by one). In brackets is the number of such pages among
683 of olmOCR's test set, arXiv papers and Debian manuals; "-" is none. Pages count from 0. Furniture was measured with
the policy that drops it. The page that a value was first set on is not recorded. An em is the row's font size.
"""

# --- runs
TILT = 0.26  # sine of 15°; a scan is tilted by less, a watermark by more | bws_book_ch2#12 (1)
DROP_CAP_SIZE = 1.8  # body sizes; the least size of a drop cap | -
MOST_DROP_CAPS = 3  # of a page; more are a title letter by letter | -
DROP_CAP_TEXT_SIZE = 0.6  # drop cap sizes; the most size of a line beside it | -
DROP_CAP_GAP = (-0.5, 1.5)  # body sizes; from the drop cap to the text beside it | -
SAME_ROW = 0.4  # em; the most distance of the middles of two runs of a row | arxiv-2312.06109#3 (87)
DOUBLED = 0.3  # em; the most shift between two prints of one text | -
ONE_RUN = 0.5  # em; a wider gap separates two runs | debmake-doc.en#43 (25)
ONE_RUN_APART = 0.3  # em; the same for two that the document does not write one after the other | -
ONE_RUN_OF_CODE = 1.1  # em; the same for two pieces of code, between which two spaces may be | -
CODE_NUMBER_GAP = 12  # em; the most indent of code behind the number of its line | -
SPACE = 0.15  # em; a wider gap within a run is a space | not_parsing#3 (12)
TRAILING_SPACE = 0.2  # em; what a space behind the text adds to its width | -
MARKER_CHARS = 8  # of an item number, at most | -
MARKER_GAP = 3.0  # em; the most gap between a bullet and its text | arxiv-2312.06109#7 (3)
NUMBER_GAP = 1.6  # em; the same for a number without point or bracket | instructions_and_schematics#3 (6)

# --- margins
LINE_NUMBERS = 4  # the least line numbers of a column | -
LINE_NUMBER_CHARS = 6  # a line number has fewer characters | -
LINE_NUMBER_SHIFT = 0.5  # em; their edges are this near | -
LINE_NUMBERS_EVEN = 0.7  # of the steps; so many are equal | -
LINE_NUMBER_SIZE = 0.9  # of the text; beside scripts without capitals, line numbers are smaller | -
LINE_NUMBERS_FILL = 0.7  # of the longest line beside them; the median line is longer | -
LINE_NUMBERS_IN_TEXT = 0.4  # of line numbers; beside so many a sentence goes on | -

# --- names in the margin
TERM_LINES = 4  # the least lines that begin where the text does | -
TERM_EDGE = 0.33  # of the wide lines; so many begin where the text does | -
TERM_NEAR = 0.3  # em; lines begin at one x within it | -
TERM_OUT = 1.0  # em; a name begins further left of the text | -
TERM_SENTENCES = 2  # of the text; so many go on from line to line, at least | -
TERM_LETTERS = 2  # of a name, at least | -
TERM_LINE = 0.2  # em; a name whose bottom is nearer to that of a text is on its line | -
TERM_SHARE = 0.34  # names per row of text; more are the first column of a table | -

# --- furniture
HEADER_ZONE = 0.1  # page heights; a header or footer ends within it | form_on_later_pages#6 (21)
WIDE_HEADER_ZONE = 0.14  # page heights; the same with a rule, page number or side parts | bws_book_ch2#41 (125)
MOST_HEADER_ROWS = 6  # of a header or footer | lots_of_sci_tables#0 (6)
HEADER_SIZE = 1.15  # body sizes; a header is not larger | failing_anchor_pg4#7 (557)
MARKED_HEADER_SIZE = 1.3  # body sizes; with a rule or page number it is not larger | -
LARGE_TEXT = 0.15  # of the characters; a larger size that more have is text too | -
HEADER_PARTS = 1.5  # em; beyond the outermost tenth the parts of a header are further apart | -
FOOTER_INDENT = 2  # em; a footer below a rule and beyond that tenth is indented | -
FURTHER_CUT = 0.75  # of the widest gap so far; a header without a mark ends at a wider one | -
NUMBER_ZONE = 0.2  # page heights; a page number alone ends within it | -
NUMBER_APART = 1.5  # body sizes; the least gap beside such a page number | -
HEADER_RULE_PX = 2  # pixels; how far a header's rule may reach into a row | -
PAGE_NUMBER_GAP = 0.4  # body sizes; the least gap beside a lone page number | slideshow_mostly_images#59 (1)
MARKED_HEADER_GAP = 0.8  # body sizes; the least gap beside a marked header | form_on_later_pages#2 (22)
HEADER_GAP = 2  # body sizes; the least gap beside a header without a mark | debmake-doc.en#22 (32)
NOTE_SIZE = 0.94  # body sizes; a footnote is not larger | debmake-doc.en#17 (163)
NOTE_ZONE = 0.4  # page heights from the top; footnotes are below | large_prompt_hint2#2 (2)
NOTE_RULE_ABOVE = 2  # em; the rule above a column's first row is within it | -
NOTE_RULE_SHIFT = 2  # em; the rule begins this near to the left of its note | debmake-doc.en#81 (3)
NOTE_RULE_WIDTH = 0.5  # page widths; a footnote's rule is shorter | load_v_error#1 (2)
BACKGROUND = 0.6  # page areas; a larger picture is paper, not a figure | skinnypage#0 (4)
RULES_IN_PAGE = 300  # longest side / thickness; a rule is at most so thick | -
RULE_LENGTH = 8  # thicknesses; a rule is at least so long | -

# --- regions
GUTTER = 0.8  # median em; the least width of a gutter | arxiv-2401.12503#2 (53)
BESIDE = 0.2  # em; the overlap of rows that are not one below the other | -
ROWS_PER_TABLE_ROW = 10  # of a band; one of so many has text beside both sides | install-latex-guide.zh-cn#7 (10)
TABLE_ROWS = 2  # the least rows beside a gutter of a table | bws_book_ch2#8 (188)
CELL_BELOW = 0.8  # em; a nearer row below a table continues its cells | instructions_and_schematics#9 (7)
LEAD_GAP = 1.5  # em; a row further above columns is not theirs | bws_book_ch2#23 (1)
REST_GAP = 3  # em; a row further below columns is not theirs | tobacco_missed_tokens_pg1#2 (1)
TABLE_APART = 0.6  # em; a table between columns has a wider gap around it | instructions_and_schematics#75 (2)
TABLE_CELL_WIDTH = 0.6  # column widths; the cells of such a table are narrower | -
TABLE_SWITCHES = 1  # sides per row; a table of prose is written row by row | arxiv-2401.12503#6 (3)
COLUMN_ROWS = 3  # the least rows of columns | bws_book_ch2#10 (22)
HALF_PROSE_SWITCHES = 0.2  # sides per row; prose beside a list has less | instructions_and_schematics#75 (2)
HALF_PROSE_ALIGNED = 0.5  # of rows; or shares fewer | -
HALF_PROSE_ROWS = 5  # and more rows, if one side has only one | form_on_later_pages#6 (2)
LISTS_ALIGNED = 0.3  # of rows; lists side by side share fewer | instructions_and_schematics#67 (21)
LISTS_SWITCHES = 0.3  # sides per row; lists side by side have less | instructions_and_schematics#66 (27)
WRITTEN_APART_ROWS = 3  # the least rows of columns written apart | instructions_and_schematics#74 (3)
WRITTEN_APART_SWITCHES = 0.1  # sides per row; columns written apart have less | instructions_and_schematics#9 (3)
PROSE_ROWS = 3  # the least rows of prose | slideshow_mostly_images#44 (5)
PROSE_FILL = 0.7  # of the stack's width; the median row of prose is wider | debmake-doc.en#82 (17)
PROSE_WIDTH = 10  # em; the median row of prose is wider | arxiv-2312.06109#4 (5)
NUMERIC_SHARE = 0.4  # of rows that begin with a number; more are cells | instructions_and_schematics#76 (2)

# --- document order
FAULTS = (1, 3)  # fewer, at least, for the document's order; the second where ours has tables | -
FEWER_FAULTS = 0.5  # of our faults; the document's order has so many fewer | -
LINE_BELOW = 1.8  # em; the next line of a text is nearer | -
LINE_SHIFT = 3.0  # em; the next line of a text begins within it | -
UPWARDS = 2.0  # em; a jump upwards is wider | -

# --- ruled tables
LEAST_RULES = 3  # of a ruled table | -
MOST_RULES = 2000  # of a page; the first ones are enough | -
MOST_CELLS = 4000  # of a grid, with its empty ones | -
RULE_PIECE = 0.6  # body sizes; a piece of a rule is at least so long | -
RULE_NEAR = 0.3  # body sizes; nearer rules touch, nearer parallel ones are one | -
RULED = 0.6  # of a cell's side; a rule covers more | -
FILLED_CELLS = 0.3  # of a table's cells; at least so many have text | -
CELL_LINES = 25  # of a cell, at most; longer ones are columns of a page | -
FRAME_SHARE = 0.75  # of a grid's letters in one cell, at least: the grid is the frame of a page or box | -
FRAME_LINES = 3  # of that cell, at least | -
LONE_ROW_LINES = 4  # of a cell of a table of one row, at most | -
CUT_OVERLAP = 0.3  # em; a run that crosses a rule by more is cut | -
CUT_REACH = 1.5  # em; a rule cuts a run at a space within it | -
FULL_CELL = 0.7  # of the lines between two rules; a cell with more shows rows without rules | -
NUMBER_LINES = 3  # of a cell, at least; so many numbers are a column | -

# --- columns of tables
TABLE_JOIN = 1.5  # em; parts of a table are nearer | -
CROSSING = 6  # of the rows of a table, one may cross a gutter | -
TIGHT_GUTTER = 0.3  # em; the least width of a gutter that most rows leave free | -

# --- paragraphs
CELL_GAP = 2.0  # em; a wider gap in a row is a tab | arxiv-2312.06109#1 (93)
LEADING = 1.3  # usual leadings; a row further down begins a stack | arxiv-2312.06109#0 (191)
LEADING_RANGE = (1.15, 2.0)  # em; limits of the usual leading | instructions_and_schematics#64 (75)
LEAST_LEADING = 0.9  # em; nearer rows do not count for the usual leading | arxiv-2312.06109#2 (21)
USUAL_LEADING = 8  # of rows, one is nearer than the usual leading | debmake-doc.zh-cn#78 (3)
ALIKE_SIZE = 0.15  # of the larger size; the most difference within a stack | arxiv-2312.06109#4 (10)
FULL_ROWS = 4  # of rows, one may reach beyond the right edge | debmake-doc.zh-cn#84 (73)
FEW_ROWS = 3  # of a stack, whose right edge is the column's | instructions_and_schematics#67 (16)
RAGGED = 2  # em; a wider spread of right edges is ragged | instructions_and_schematics#64 (58)
FLUSH_RIGHT = 1  # em; a narrower spread of right edges is flush right … | failing_anchor_pg4#0 (3)
FLUSH_RIGHT_INDENT = 3  # em; … if left edges spread wider | arxiv-2312.06109#14 (9)
CENTRED = 2  # half em; a ragged stack with a narrower spread of centres is centred | arxiv-2401.12503#10 (54)
SINGLE_WIDTH = 0.5  # column widths; narrower ragged rows are lines of their own | instructions_and_schematics#67 (19)
LIST_FILL = 0.7  # of the widest row but one; the median row of a list is narrower | -
LIST_ITEM = 0.9  # of the same; a narrower row of a list ends its item | -
HANGING_EVEN = 0.5  # em; the most spread of hanging indents | -
HANGING_ITEMS = 2  # of a region, at least, whose first lines stand out to the left | -
HANGING_NUMBERED = 0.6  # of first rows; more with numbers are a list | debmake-doc.en#32 (1)
SHORT_ROW = 1.5  # em; a row that ends further left ends a paragraph | large_prompt_hint2#2 (1)
INDENT = 0.8  # em; an indent is wider | large_prompt_hint2#2 (23)
WORD_SPACE = 0.5  # em; added to the first word of the next row | debmake-doc.en#84 (7)
ITEM_ROOM = 0.5  # em; an item mark below a row with more room begins an item | -
HEADING_CENTRE = 1  # half em; the most shift of centres in a heading | arxiv-2312.06109#0 (36)
HEADING_SHIFT = 0.5  # em; the least shift of left edges in a centred heading | slideshow_mostly_images#63 (1)
HAN_WIDTH = 1.5  # em; a Chinese character with its punctuation | -
CODE_CHARS = 4  # of a piece of code, at least; its width tells that of a character | -
CODE_WIDTH = 0.55  # em; a character where no piece is so long | -
CODE_GAP = 0.3  # characters; a wider gap is a space | -
CODE_SPACES = 40  # of an indent or gap, at most | -
CELL_LEADING = 1.45  # em; a further line of a cell is nearer | instructions_and_schematics#69 (12)
KEY_LEADING = 0.85  # median leadings; a further line of a first cell is nearer | instructions_and_schematics#60 (22)
BY_COLUMNS_SWITCHES = 0.2  # sides per row; a table written by columns has fewer | instructions_and_schematics#74 (2)
BORDER_MARGIN = 2  # em; borders this far around a table count | arxiv-2401.12503#6 (10)
BORDER_NEAR = 0.35  # em; nearer edges are one border | arxiv-2312.06109#3 (17)
BORDER_WIDTH = 0.6  # table widths; a border covers more | arxiv-2401.12503#2 (43)
LEAST_BORDERS = 3  # of a table with borders | instructions_and_schematics#75 (8)
BORDERS_PER_KEY = 0.25  # gaps between borders per first cell, at least | instructions_and_schematics#75 (8)
