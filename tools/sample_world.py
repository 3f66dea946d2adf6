# ruff: noqa: E501  (one template a line reads better than wrapped prose)
"""The words of Oskerry: vocabulary, question templates and prose for the bundled sample.

Oskerry is an invented town of stairs above a tidal lake. This module holds only text; how the
text is combined, checked and written to disk is the business of ``make_sample.py``.

Notation: ``[a|b|c]`` is a choice, ``{slot}`` is filled in by the caller. In a block read by
``groups`` every line is one alternative and a blank line starts the next group.
"""

from __future__ import annotations

Groups = tuple[tuple[str, ...], ...]


def groups(block: str) -> Groups:
    """Split a block into groups at blank lines, and each group into its lines."""
    return tuple(
        tuple(line.strip() for line in part.splitlines() if line.strip())
        for part in block.strip().split("\n\n")
    )


def words(text: str) -> tuple[str, ...]:
    """The words of a string, for lists that read better without quotes."""
    return tuple(text.split())


def lines(block: str) -> tuple[str, ...]:
    """The lines of a block that is a single group."""
    return groups(block)[0]


# --- The rules of the world, as data ---------------------------------------------------------

TRADES = words("potter baker weaver mason pilot beekeeper dyer tinker miller glazier")
PLACES = words("bridge well gate mill tower granary")
MONTHS = ("Thaw", "Seed", "Brim", "Ember", "Slate", "Frost")
GREETING = {"morning": "Clear water", "noon": "Short shadow", "evening": "Still lamp"}

QUARTERS = ("Reed", "Copper", "Orchard", "Gull", "Lamp")
STAIRS = words(
    "Kiln Rope Candle Heron Salt Barley Anvil Plum Thistle Otter Bell Cinder Willow Wren Chalk "
    "Pepper Loom Oar Juniper Ladle"
)

# Given names are an onset and an ending; pairs that are names or brands elsewhere are left out.
ONSETS = words(
    "Tav Bresk Kesh Dunv Fesk Halv Jorv Lumv Morsk Orv Pesh Quill Rusk Sorv Thelk Ulv Vesh Yarv "
    "Zev Elsk Istr Ombr Nimv Pelv Cadr Garv Wesk Ildr Akv Bolv"
)
ENDINGS = ("ik", "un", "el", "o", "a", "ey", "et")
NOT_NAMES = frozenset(
    words(
        "Tava Tavo Tavel Tavey Keshet Halvey Halvo Orvel Orvil Ruska Rusko Quilla Quillo Ulva Zevel "
        "Zevo Garvey Garvo Pelvik Elska Zeva Kesha Pesho Jorvik Akvo Istro Bolvo Akva "
        "Wesko Yarvik Orva Orvo Pesha Kesho Halva Ulvik "
        "Ombra Ildra Istra Cadra Quillet Nimvo Garva Keshik Pelva"
    )
)

# Old-tongue nouns with what they mean; the plural and the small form are made by rule.
OLD_WORDS = dict(
    pair.split(":")
    for pair in words(
        "pelm:jar simmet:net dorra:boat orrish:lamp tukka:spoon velt:stair harn:stone bisk:loaf "
        "lumma:window koss:rope mirrel:bird tamsk:hammer sholl:shell grett:basket wimble:bell "
        "ferrow:field nask:key ompet:drum yarrish:oar crell:candle duvva:blanket plisk:fish "
        "ondrel:wheel stekka:nail brommet:barrel ushel:cup halk:door vippet:needle quarrow:apple "
        "zillan:ribbon"
    )
)

THINGS = lines("""
jars of honey
clay bowls
coils of rope
kiln bricks
lamp wicks
baskets of plums
smoked eels
tallow candles
sacks of barley
roof slates
ash oars
bolts of cloth
rye loaves
barrels of herring
bundles of reed
copper nails
goose eggs
fishing nets
floor tiles
pears
bells of glass
door hinges
""")
GOODS = words("salt rope barley honey slate wool tar clay reed copper wax flax oil eels")
BOAT_FIRST = words("Patient Second Grey Quiet Long Honest Lucky Copper Late Plain Small")
BOAT_LAST = words("Heron Promise Lantern Widow Otter Answer Morning Kettle Sister Wager")

# --- Rule questions without a context (open_qa) -----------------------------------------------

ASK_GUILD_NAME = lines("""
What is the [full|guild] name of a {trade} [called|whose given name is] {name}?
{name} has just been sworn in as a {trade}. [What is the new guild name?|What should we call {name} from now on?]
A {trade} signs the guild book in the {quarter} quarter. The given name is {name}. [What name goes in the book?|Which name is written?]
In Oskerry, how [do you|would one] name {name}, who works as a {trade} on {stair} Stair?
Write the guild name of {name} the {trade}.
I have a letter for {name}, the {trade} on {stair} Stair. [Which guild name do I put|What guild name belongs] on it?
By Oskerry custom {name} became a {trade} and took a guild name. [Which one?|What is it?]
My [cousin|neighbour|sister|uncle] {name} [passed the test|finished the apprenticeship] to be a {trade}. What guild name follows?
Give the guild name for this person: {name}, {trade}.
The roll of the {quarter} quarter lists a {trade}, given name {name}. How is the guild name written?
What do people on {stair} Stair call {name} after [twenty|ten|six] years as a {trade}?
Guild name, please: {name} is a {trade} in {quarter}.
[Suppose|Say] that {name} gives up farming and joins the guild as a {trade}. [What name comes with it?|What is the full name then?]
""")
ASK_CHILD_NAME = lines("""
{mother} has had a [daughter|son] and chose the name {child}. How is the child entered in the roll?
What is the full name of {child}, whose mother is {mother}?
A child called {child} starts school on {stair} Stair. The mother is {mother}. [What name does the teacher write down?|What goes on the slate?]
{child} is too young for a trade and {mother} is the mother. [What is the child called in full?|Give the full name.]
In Oskerry, how does one name {mother}'s youngest, {child}?
Write the child name: {child}, born to {mother}.
The midwife of the {quarter} quarter reports that {mother} bore a child, {child}. What does the clerk write?
Before any guild takes {child}, [what is the proper name of this child of {mother}|how is {mother}'s child properly named]?
[Two mothers on {stair} Stair each have|There are two children on {stair} Stair, each] a {child}. How do we name the one whose mother is {mother}?
Full name of a child, please: mother {mother}, given name {child}.
A lost child says "I am {child}, and {mother} is my mother." What full name is called out at the landing?
""")
ASK_COUNT = lines("""
How [do you say|would one say] {n} in Oskerry count?
A stall on {stair} Stair sells {n} {things}. Give the number in Oskerry count.
Write {n} the way a clerk in Oskerry would.
[Put|Turn] the number {n} into tel and orr.
The kiln ledger needs an entry for {n} {things}. What number is written?
There are {n} {things} in the store of the {quarter} quarter. [How many is that in Oskerry count?|Count them in Oskerry fashion.]
In the town's own counting, what is {n}?
{name} [sold|bought|packed] {n} {things} before noon. Say how many in Oskerry count.
If a stranger says "{n} {things}", what number does an Oskerry clerk write down?
Convert for the ledger: {n}.
The harbour weighed and counted {n} {things}. Express the count with orr and tel.
Oskerry number for {n}, please.
I counted {n} steps between {stair} Stair and the Mere. How is that number written here?
""")
ASK_DATE = lines("""
How is day {day} of {month} in the year {year} written in Oskerry?
Write this date the Oskerry way: year {year}, day {day} of {month}.
{name} was born on the {day_th} day of {month}, in {year}. What date [stands|is] in the roll?
The lock by {stair} Stair was finished in the year {year}, on day {day} of {month}. Give the date as [carved above it|the mason carved it].
What would a clerk write for {month}, day {day}, year {year}?
Date a letter from the {quarter} quarter sent on day {day} of {month}, {year}.
A deed was signed on the {day_th} of {month} in {year}. [How does it date itself?|What is the date on it?]
Put into Oskerry form: day {day}, month of {month}, year {year}.
It is the year {year}, and day {day} of {month} has come. What date does {name} write at the top of the page?
The ferry ledger opens on the {day_th} day of {month} in the year {year}. Write the date.
Which date does a tombstone show for someone who died on day {day} of {month}, {year}?
Oskerry date, please: {day_th} day of {month}, year {year}.
""")
ASK_ADDRESS = lines("""
Write the address of house {house} on {stair} Stair in the {quarter} quarter.
{name} lives at number {house}, {stair} Stair, {quarter} quarter. How is a letter addressed?
What address does a porter need for door {house} of {stair} Stair, up in {quarter}?
In the {quarter} quarter, on {stair} Stair, a {trade} keeps house {house}. Give the Oskerry address.
Put this into the Oskerry order: number {house}, {stair} Stair, in {quarter}.
[A parcel of|A crate with] {things} must go to {stair} Stair number {house}, which is in the {quarter} quarter. What is written on the label?
How would one address a note to {name}, {house} {stair} Stair, {quarter}?
The new {trade} took house {house} on {stair} Stair ({quarter} quarter). What is the address?
Address, please: {quarter} quarter, house {house}, {stair} Stair.
I was told to find number {house} along {stair} Stair, inside the {quarter} quarter. How is that written in Oskerry?
A clerk must enter the home of {name}: the {quarter} quarter, {stair} Stair, door {house}. What is the entry?
""")
# The part of the day is always hinted by one of three plain words or by an hour of the light.
ASK_GREETING = lines("""
How does one greet {name} {when} in Oskerry?
You meet {name} the {trade} on {stair} Stair {when}. What do you say?
It is {part} and {name} comes [through the gate|down the steps|out of the ferry house]. Give the proper greeting.
What is the polite greeting for {name} {when}?
{name} opens the door {when}. What are your first words?
Write the greeting for a note that {name} will read {when}.
A stranger wants to be polite to {name}, {when}, in the {quarter} quarter. What should the stranger say?
[Greet|Please greet] {name}. It is {part}.
The {trade} {name} [waves|calls out] to you {when}. What do you call back?
In Oskerry, which words are said to {name} {when}?
My aunt {name} visits us {when}. How do I greet her?
""")
WHEN = {
    "morning": (
        "in the morning",
        "early in the morning",
        "on a cold morning",
        "one morning in {month}",
    ),
    "noon": ("at noon", "right at noon", "at noon on market day", "one noon in {month}"),
    "evening": (
        "in the evening",
        "late in the evening",
        "on a wet evening",
        "one evening in {month}",
    ),
}
ASK_PLACE = lines("""
{name} [built|paid for] a {kind} at the foot of {stair} Stair. What is it called?
What is the name of the {kind} [founded|given to the town] by {name}?
In Oskerry, how do you name a {kind} that {name} built?
The {quarter} quarter has a new {kind}, and its founder was {name}. [What stands on the map?|Which name goes on the map?]
Name this place: a {kind}; founder, {name}.
A map maker finds a {kind} by {stair} Stair and learns that {name} founded it. What label is right?
If {name} the {trade} raises a {kind}, what will people call the {kind}?
Write the place name for the {kind} of {name}.
The council thanked {name} for the {kind} and named it by custom. What name did it get?
[Long ago|A hundred years ago] {name} had a {kind} put up in {quarter}. How is the place known?
Place name, please: {kind}, begun by {name}.
""")
ASK_WORD = lines("""
The old word for a {gloss} is {word}. What is the word for {asked}?
In the old tongue {word} means {gloss}. How do you say {asked}?
If one {gloss} is {word}, how does one say {asked}?
{word} is an old Oskerry word for a {gloss}. Give the word for {asked}.
An inscription on {stair} Stair uses {word} for {gloss}. How would it say {asked}?
Old tongue: {word}, a {gloss}. Form the word for {asked}.
Grandmother says {word} when she means a {gloss}. What does she say for {asked}?
A child learns that {word} stands for {gloss}. Which word stands for {asked}?
Say {asked} in the old tongue, where {word} is the word for {gloss}.
""")

# --- Classification ----------------------------------------------------------------------------

ASK_HOUSE = lines("""
Which of the four Houses should hear this petition: Water, Fire, Stone or Thread?
Which House takes up this complaint, Water, Fire, Stone or Thread?
Sort this note: Water, Fire, Stone or Thread?
Name the House that must answer this letter (Water, Fire, Stone, Thread).
[A clerk|The door clerk] has to pass this on to Water, Fire, Stone or Thread. Which House is it?
To which House does this matter belong: Water, Fire, Stone or Thread?
Decide which House is responsible: Water, Fire, Stone or Thread.
Water, Fire, Stone or Thread: who looks after this?
Classify the petition by House as Water, Fire, Stone or Thread.
Under which House should this report be filed? Choose from Water, Fire, Stone and Thread.
[Read the slip and name|Name] the House it should go to. The Houses are Water, Fire, Stone and Thread.
""")
PETITIONS = {
    "Water": lines("""
The lower lock leaks so badly that boats settle in the mud by noon.
Rain from the terrace above runs straight into my cellar[| and has ruined the onions].
The well has tasted of iron since the last [storm|spring tide].
The ferry landing is silted up and passengers have to wade ashore.
Frogs have blocked the overflow pipe and the yard is a pond.
Somebody opened the sluice at night and drained our eel tank.
The mill stream ran dry for two days and nobody told us.
The drinking trough is green and the mules refuse it.
High tide now comes over the quay and into the fish stalls.
The gutter has burst and empties itself on everyone who climbs past.
The ferry leaves before the tide bell and strands half the market.
A pump handle is missing, and forty families carry buckets.
    """),
    "Fire": lines("""
The street lamps have been dark for nine nights.
A kiln smokes into our bedrooms whenever the wind is from the Mere.
Sparks from the forge chimney come down on my thatch.
The shared oven has cracked and bread burns on one side.
Lamp oil is being sold in short measures.
Someone leaves hot ashes beside the wood store.
The beacon was lit an hour late and two boats missed the channel.
A neighbour burns tar in an open yard, next to hay.
The hearth in the common room no longer draws, and we cough all evening.
Our candles gutter because the tallow is mixed with sand.
The smith works his furnace all night and nobody sleeps.
The lamplighter has no ladder and skips the upper lamps.
    """),
    "Stone": lines("""
Three steps are broken and my mother has already fallen.
The retaining wall bulges more after every frost.
The parapet of the bridge is loose and children lean on it.
Someone moved the boundary stone by a full pace.
A paving slab rocks and splashes everyone who treads on it.
The arch over the passage has a crack I can put my hand in.
Masons left a heap of rubble in front of my door.
The new tower was built without footings, as far as I can see.
The quarry carts have worn ruts into the paving.
My cellar vault is shedding mortar into the cheese.
A gatepost leans so far that the gate no longer shuts.
The landing's granite edge has been chipped by careless carters.
    """),
    "Thread": lines("""
The bell rope is frayed and will not last the winter.
My coat was dyed the wrong blue and the dyer will not answer.
The awning over the market tore and drips on the flour.
Nets are sold with a mesh so wide that the catch swims out.
The ropewalk sent us cord that rots within a month.
Two weavers claim the same pattern, and both have sold it.
The ferry's sail is more patch than sail.
Moths from the wool store have got into every wardrobe nearby.
The flags for the festival were sewn upside down.
I paid for twelve ells of linen and received nine.
The hammocks in the night shelter have all come unstitched.
Our guild banner was borrowed and came back with a hole.
    """),
}
PETITION_OPEN = lines("""
To the council, from {name} of {stair} Stair.
{name} writes from the {quarter} quarter:
I live at the top of {stair} Stair.
I am sorry to trouble you again.
Petition of {name}, {trade}.
This is about {stair} Stair.
My neighbours in {quarter} asked me to write.
We have waited since {month}.
""")
PETITION_CLOSE = lines("""
Please send somebody before {month}.
We would fix it ourselves, but it is not ours to touch.
I have told the warden twice.
The people of {stair} Stair would be grateful.
Nobody has come to look.
I can show the place to anyone who asks.
It was not so when I was young.
Signed, {name}.
""")

ASK_GAUGE = lines("""
The gauge at the {stair} lock reads {reading} spans. Is the lock open or shut?
Water stands at {reading} spans below {stair} Stair. Open or shut?
{name} wants to take the {boat} through the {stair} lock, where the gauge shows {reading} spans. How is the lock?
By the rule of the locks, what is a lock with {reading} spans on its gauge?
A pilot reads {reading} spans [at dawn|at dusk|by lantern]. Will the lock be open or shut?
{reading} spans at the {quarter} lock. Which flag is up, open or shut?
The keeper [measures|calls out] {reading} spans and writes one word in the log. Which word?
Say whether the lock is open or shut at {reading} spans.
In {month} the {quarter} gauge stood at {reading} spans. Was the lock open or shut?
""")
ASK_PERSON_PLACE = lines("""
Say for each name whether it is a person or a place: {names}.
Person or place? {names}
[A traveller copied|Someone copied] these names from a wall in {quarter}. Mark each as person or place: {names}.
Classify the names by what they are called after, person or place: {names}.
Which of these are persons and which are places: {names}?
The clerk on {stair} Stair must label each name, person or place. The names are {names}.
Label every entry as person or place. {names}
For an index of {quarter}, tell persons from places: {names}.
Sort out this list, person or place for each: {names}.
""")

# --- Passages for closed_qa and information_extraction ------------------------------------------

MOVE = groups("""
{name} the {trade} has left {stair2} Stair [after {few} years there|for good].
After {few} years on {stair2} Stair, the {trade} {name} [has packed up|decided to move].
{name}, a {trade} known for [short answers|good work|an even temper], moved house in {month}.
News from the {quarter} quarter: {name}, {trade}, has a new door to knock on.

The new home is number {house} on {stair} Stair, in the {quarter} quarter.
Letters should now go to house {house}, {stair} Stair, in the {quarter} quarter.
From now on the door to knock on is {house} {stair} Stair, {quarter} quarter.

The rooms come with {extra}, which decided the matter.
What settled it was {extra}.
There is also {extra}, and the rent is no higher.
The landlord threw in {extra}.

The move took [two mules and an afternoon|four friends and a borrowed barrow|most of a wet day].
The old rooms were damp, and the stove smoked.
A cousin, {other}, carried the [heavy chest|mirror|tools] down the steps and would not be paid.
The neighbours have already [asked for help with a roof|brought soup|complained about the noise].
Nobody on {stair2} Stair has been told who will follow.
There was a farewell supper, and a second one because of what was left.
The old key has been handed back, a little bent.
A [hen|jar of pickles|three-legged chair] was left behind for whoever comes next.
Business goes on as before, apart from the sign.
People who knock at the old door find a note with a small map.
The view goes over the roofs as far as the Narrows.
""")
EXTRAS = lines("""
a walled garden
a dry cellar
a south window
a bread oven
a share in the well
a fig tree
a workshop with a skylight
a small balcony
a loft for pigeons
a cupboard bed
a rain barrel
a stone sink
""")
OPENING = groups("""
The {work} at the foot of {stair} Stair was [opened|put to use] on day {day} of {month} in the year {year}.
On day {day} of {month}, in the year {year}, the {quarter} quarter [opened|inaugurated] its new {work}.
In the year {year}, on day {day} of {month}, people gathered to see the new {work} by {stair} Stair.

{name} the {trade} gave the speech and kept it short.
The speech was given by {name}, a {trade}, who had lost a bet.
It fell to {name}, the oldest {trade} present, to give the speech.

The work had been done by a crew under {other}[| in a single summer|, who refused all praise].
{other} had led the work[| from the first stake| through two wet seasons].

[Rain|A cold wind|Fog from the Mere] kept many people at home.
The band arrived late and played [twice as long|only the slow pieces|very well].
There was barley soup for everyone who had carried stone.
The first to use it was [a goat|a boy with a kite|a woman selling eels].
A copper coin was laid under the last stone, as custom asks.
The council had argued over the cost for years.
Some thought the old one had been good enough.
Two benches collapsed under the weight of the curious.
The keys were handed over on a cushion and at once mislaid.
Workers who had lost a [tool|hat|finger nail] on the site were given a drink.
A choir sang from the terrace above, mostly in tune.
The paint was still wet, as several coats can prove.
""")
WORKS = lines("""
footbridge
bell tower
lock gate
bath house
ferry landing
market roof
well
""")
SHIPMENT = groups("""
The {boat} [left|cast off from] the {quarter} landing with {n} {things} aboard.
[On a falling tide|Before first bell] the {boat} set out with {n} {things} in the hold.
{n} {things} went down the Mere on the {boat}[| this week].

The cargo was meant for {place}, where {name} was to receive it.
{name} waited for it at {place}.
It was bound for {place}, to the order of {name}.

{other} was at the helm[| and in no hurry].
At the helm stood {other}, who [hums when nervous|knows every shoal|had not slept].

The lock keeper waved it through without looking up.
[Wind from the hills|A slack tide|Weed on the rudder] slowed the crossing.
One of the crew had a cold and was excused from singing.
The fee was paid in copper, and a receipt was chalked on the mast.
An eel boat had to give way, and its skipper said so at length.
The invoice was [wet but legible|written on the back of a hymn|short and correct].
Two passengers sat on the cargo and played dice.
A heron rode along on the stern as far as the reeds.
The cook made porridge twice and apologised once.
Everything was counted again at the far end and agreed.
The sail had been patched with [a curtain|a flag|half a coat].
Halfway across they met the mail and exchanged the news.
""")
CONTEST = groups("""
The {quarter} quarter held its yearly [contest|match] on {stair} Stair, and {count} households [took part|sent someone].
{count} people entered this year's [contest|trial] on {stair} Stair.

First prize went to {name} for {entry}.
The judges gave first prize to {name}, who had brought {entry}.
{name} won with {entry}.

{other} came second with {entry2}.
Second place fell to {other}, for {entry2}.

The prize was {prize}.
As always, the winner took home {prize}.

The judging took longer than the contest.
A dog ate one of the entries and seemed to approve.
There was [some muttering|a toast|a long silence] when the result was read out.
Last year's winner sat in the front row and clapped slowly.
Next year the rules will say more about glue.
It rained only during the speeches.
The clerk wrote down every score in the wrong column and had to start again.
Children were allowed to touch everything afterward.
One judge asked for a second look and then for a third.
The soup ran out early, and so did the jokes.
Somebody's aunt had opinions about the varnish.
""")
ENTRIES = lines("""
a plum tart
a basket that holds water
a clay whistle
a kite of waxed linen
a three-legged stool
a jar of dark honey
a woven map of the locks
a folding ladder
a copper weather vane
a toy ferry
a rope of ninety knots
a lamp without a shadow
""")
PRIZES = lines("""
a goose
a silver thimble
a sack of flour
a year's lamp oil
a seat at the council
a new oar
a painted bell
a free ferry pass
""")

ASK_CTX_ADDRESS = lines("""
What is {name}'s address now? Give it the Oskerry way.
Write the address for a letter to {name}.
[Where should a porter deliver|Where do you send] a parcel for {name}? Answer with the address.
From the note, give the new address.
How does the roll write the address of the {trade}?
Which address belongs on {name}'s mail?
Read the passage and write down where {name} lives, as an Oskerry address.
State the address in the proper order.
""")
ASK_CTX_NAME = lines("""
What is the guild name of the {trade} in this text?
Under what guild name is {name} known?
Give {name}'s guild name.
How would the guild book write the name of this {trade}?
Which guild name does {name} carry, going by the passage?
The text calls the {trade} by the given name. What is the guild name?
Write the full name of {name}, as the guild has it.
""")
ASK_CTX_DATE = lines("""
When was the {work} opened? Write the date the Oskerry way.
Give the date of the opening as a clerk would write it.
What date should be carved on the {work}?
On which date was the {work} opened? Use the Oskerry form.
Find the date in the text and write it in the town's order.
Date the opening of the {work} for the town roll.
Write down the day of the opening, Oskerry style.
""")
ASK_CTX_COUNT = lines("""
How many {things} were aboard? Answer in Oskerry count.
Enter the size of the cargo in the ledger, in tel and orr.
What number does the harbour clerk write for the {things}?
Give the number of {things}, in Oskerry count.
The {boat} must declare its load. What count is declared?
Count the cargo of the {boat} in the Oskerry way.
How large was the load, written as an Oskerry number?
""")
# Plain questions: passage kind, the fact they ask for, wordings.
ASK_FACT = {
    "move": {
        "extra": lines("""
What [came with|was included with] the new rooms?
What was the deciding attraction of {name}'s new home?
Besides the rooms, what does {name} get?
        """),
        "stair2": lines("""
Which stair did {name} leave?
On which stair did the {trade} live before? Give its name only.
What is the name of the stair {name} moved away from?
        """),
    },
    "opening": {
        "name": lines("""
Who gave the speech?
Whose speech was heard at the opening?
Name the speaker.
        """),
        "other": lines("""
Who led the building work?
Under whom was the {work} built?
Name the person in charge of the crew.
        """),
    },
    "shipment": {
        "boat": lines("""
Which boat carried the {things}?
What is the name of the boat?
Name the vessel in this report.
        """),
        "place": lines("""
Where was the cargo bound?
What was the destination of the {boat}?
To which place did the {things} go?
        """),
        "other": lines("""
Who steered the {boat}?
Who was at the helm?
        """),
    },
    "contest": {
        "name": lines("""
Who won?
Who took first prize?
Name the winner of the contest.
        """),
        "entry": lines("""
What did the winner bring?
Which entry won?
With what did {name} win?
        """),
        "prize": lines("""
What was the prize?
What did {name} take home?
        """),
        "other": lines("""
Who came second?
Name the runner-up.
        """),
    },
}

ASK_CARD = lines("""
Fill in the card for this person: name, trade, stair.
Extract name, trade and stair.
From the text, take the person's name, trade and stair.
Make an index card with name, trade and stair.
Pull out who it is, the trade, and the stair.
Note down the name, the trade and the stair in this report.
Who is described here? Give name; trade; stair.
For the town index: name, trade, stair.
""")
CARD = groups("""
{name} has worked as a {trade} [since the flood|for {few} years|since leaving school], always on {stair} Stair.
On {stair} Stair everyone knows {name}, the {trade}.
The best {trade} in the {quarter} quarter may be {name}, whose shop stands half way up {stair} Stair.
Ask for {name} on {stair} Stair if you need a {trade}.
There is one {trade} left on {stair} Stair, and that is {name}.
{stair} Stair has lost a tailor and gained a {trade}: {name} moved in last {month}.

The shop is open from first bell until the light goes.
[Prices are fair|Nothing is cheap] and the work lasts.
Apprentices come and go, but the cat has stayed.
[Half of the quarter|The harbour] buys nowhere else.
People say the only fault is a weakness for [long stories|early mornings|puns].
Orders are written on the wall in chalk and wiped off when paid.
Visitors are given a stool, a cup of broth and an honest answer.
Payment in [eels|plums|firewood] has been known to be accepted.
It is not a rich trade, but it is a steady one.
There is a bench outside where the neighbours settle their quarrels.
A [cracked bell|stuffed pike|blue bottle] in the window has served as a sign for years.
Customers who come on time are so rare that they get a discount.
On wet days the door sticks, and one has to shout.
The tools on the wall are older than the wall.
Repairs are done first, because people are waiting for them.
""")
ASK_GOODS = lines("""
List the goods with their amounts.
Extract every good and how much of it there was.
What was carried, and how much of each? Give a list.
Turn this report into a list of goods and amounts.
Take the goods and quantities out of the text.
Make the ledger line for this cargo.
Write each item with its number.
Which goods are mentioned, and in what amount?
""")
GOODS_TEXT = groups("""
The {boat} brought {list} to the {quarter} landing.
[At|By] noon {name} had unloaded {list} from the {boat}.
{name} the {trade} paid for {list}.
The {quarter} store took in {list} [before the frost|this month].
Stolen from the shed on {stair} Stair: {list}.

[Nothing was|Not one piece was] damaged.
The porters were paid in copper and left at once.
The scales had been checked that morning.
{other} signed for it with a cross.
A mule stood on the receipt for some time.
Part of it goes on to {place} by cart.
The clerk counted everything twice and got the same answer.
More is [promised|expected] for {month}.
The lid of the strongbox was used as a table.
It took [eleven|fifteen] trips and one argument.
Some of it was damp, but none of it was short.
The dog that guards the landing slept through it all.
Whoever weighed it has neat handwriting.
""")
ASK_PEOPLE = lines("""
List the people named in the text, in order.
Who is mentioned? Give the names only.
Extract all personal names.
Name everyone in this note, in the order they appear.
Write down the persons in the passage.
Which people does the report name?
Give a list of the people, separated by commas.
Pick out the names of the people.
""")
PEOPLE_TEXT = groups("""
{name} found the lock gate jammed and sent for {other}.
The meeting was opened by {name}, and {other} took the notes.
{name} and {other} rowed out to the beacon in a [borrowed|leaking] boat.
{name} lent a ladder to {other}, who lent it further.
When {name} fell ill, {other} ran the [bakery|ferry|bee yard] alone.
The quarrel between {name} and {other} began over a [drainpipe|borrowed goose|hedge].

{third} wanted nothing to do with it.
It was {third} who [made peace|brought the lantern|paid the bill] in the end.
They asked {third} for advice and did the opposite.
Later {third} told it differently.
Only {third} had thought to bring a rope.

By nightfall it was settled, and nobody mentioned it again.
The whole of the {quarter} quarter heard of it within the hour.
The tide did not wait for any of this.
A full account hangs in the ferry house.
It is the sort of thing that happens in {month}.
Nothing was broken except a jug.
The lantern was returned the next day, cleaned.
Afterward there was tea, and a good deal of it.
No petition was filed, for once.
It made a better story than it had been an evening.
The gulls got most of the lunch.
""")

# --- Prose: general_qa. Groups: questions, openings, further sentences -----------------------------

TOPICS = tuple(
    groups(block)
    for block in (
        """
How do people in Oskerry count?
Explain [Oskerry count|the counting of Oskerry] to a visitor.
Why does a clerk in Oskerry never write a zero?
What do the words tel and orr mean?

A tel is ten and an orr is a hundred, and a number is read off from the largest to the smallest.
Oskerry counts in orr, tel and single things, which are hundreds, tens and ones.

The number {n}, for example, is written {said}.
There is no zero: a place with nothing in it is simply left out.
So forty is 4 tel and two hundred and five is 2 orr 5.
The words come from the market, where a tel was a tray and an orr was a full cart.
Anything below ten is just its digit.
Children learn it on their fingers before they learn to write.
Merchants from elsewhere grumble for a week and then find it quicker.
A wrong count is forgiven once a year, on the Loose Day.
        """,
        """
How are dates written in Oskerry?
Explain the Oskerry calendar [in a few sentences|to a newcomer].
What are the months of Oskerry?
Why does a date in Oskerry begin with the year?

A date gives the year first, then the month, then the day.
The year has six months of fifty days: Thaw, Seed, Brim, Ember, Slate and Frost.

Day {day} of {month} in the year {year} is therefore {date}.
Thaw comes first and Frost comes last.
Years are counted from the closing of the First Lock.
One day, the Loose Day, belongs to no month and nobody dates a letter on it.
The order lets a clerk sort a drawer of papers without reading past the first word.
Brim, the third, is when the Mere stands highest.
Ember is named for the kilns, which burn all through the fourth month.
Masons carve the date the same way, without commas.
        """,
        """
How does one write an address in Oskerry?
Why do addresses in Oskerry start with the quarter?
Explain Oskerry addresses to someone sending a parcel.
How does a porter read an address?

An address runs from the large to the small: the quarter, the stair, the number of the house.
Oskerry writes the quarter first, then the stair, and the house number last, with a stroke between them.

A house at number {house} on {stair} Stair in the {quarter} quarter is written {address}.
Porters like it because that is the order in which they climb.
The word Stair is left out, since every street is one.
The name of the person goes on a line of its own.
Odd numbers stand on the lake side of a stair and even numbers on the hill side.
There are five quarters: Reed, Copper, Orchard, Gull and Lamp.
A letter in the wrong order is not refused, but it arrives last.
        """,
        """
How do names work in Oskerry?
What is a guild name?
Why do people in Oskerry change their names when they learn a trade?
Explain how a child is named and what happens when it grows up.

A guild name is the trade and then the given name, joined by a hyphen, so that one hears the work first.
A child is called after its mother, with the word ba between the two names, and puts a trade in front on joining a guild.

{name} the {trade}, for instance, is {guild}.
{child}, whose mother is {mother}, is {child} ba {mother} until a guild says otherwise.
Both halves take a capital, even in the middle of a sentence.
Someone who changes trade changes the first half and keeps the second.
The swearing-in is short, and the supper after it is not.
Old people are sometimes called by the trade they gave up, out of affection.
It saves asking a stranger what they do.
Nobody inherits a guild name, not even the child of a famous master.
        """,
        """
How do people greet each other in Oskerry?
What should a visitor say when meeting someone in Oskerry?
Why do greetings in Oskerry change with the light?
Is there a polite way to greet people [at different hours|through the day] in Oskerry?

The greeting follows the light: Clear water in the morning, Short shadow at noon and Still lamp in the evening.
One wishes the other person what is best at that hour, which is clear water, a short shadow or a still lamp.

The name comes after it, with a comma between, as in "Still lamp, {name}".
The same words are used for a child and for the warden of a House.
Answering with the wrong hour is taken as a joke.
Pilots started the custom, since they judged the day by the look of the Mere.
A letter opens with the greeting of the hour at which it will be read.
At night nobody greets anybody, because people out at night are busy.
On foggy days there is some dispute about when noon was.
        """,
        """
How are bridges, wells and mills named in Oskerry?
What does the word ba mean in the name of a place?
Explain the place names of Oskerry.
What can you tell from the name of a place?

A place is named by its kind, then the word ba, then its founder.
The first word of a place name says what the thing is, the last says who began it, and ba stands in between.

The {kind} that {name} founded is {place_name}.
It is the founder who is remembered, not the builder or the owner.
When something is rebuilt, the old name stays.
A founder uses the given name only, without the trade.
Maps are easier to read for it, as one sees at once where there is water.
Houses have numbers instead, and stairs are named after whatever was sold there.
Two places of one kind with one founder have never been allowed.
        """,
        """
What do the four Houses of Oskerry do?
Who runs things in Oskerry?
To whom does one complain in Oskerry?
Explain [the Houses|how the town is governed] to an outsider.

Four Houses share the work: Water, Fire, Stone and Thread.
There is a council, but the daily business lies with four Houses called Water, Fire, Stone and Thread.

Water keeps the locks, wells, drains and ferries.
Fire looks after kilns, ovens, lamps and anything else that burns.
Stone answers for steps, walls, bridges and paving.
Thread has rope, nets, sails, cloth and clothes.
A petition goes to one House only, and the door clerk decides which.
Each House elects a warden for two years and is usually glad to see the back of them.
Where two Houses disagree, the older warden buys the younger one lunch and they settle it.
        """,
        """
Why are the locks of Oskerry shut at high water?
How do the locks work?
When may a boat pass a lock in Oskerry?
Explain the rule of the locks.

A lock is open while its gauge reads less than ten spans and shut from ten spans upward.
Every lock has a painted gauge, and at ten spans the keeper shuts the gates.

The lower terraces would flood if the gates stood open on a high tide.
Nine spans is still open, however nervous the pilot.
The keeper writes a single word in the log and goes back to the stove.
There are nine locks between the Narrows and the top basin.
The tide comes twice a day, so nobody waits long.
A shut lock is good business for the soup stalls beside it.
The rule is as old as the First Lock and has been broken once, with regret.
        """,
        """
Why is Oskerry built on stairs?
What does Oskerry look like?
Describe the town of Oskerry [to someone who has never been there|in a few sentences].
What would a traveller notice first in Oskerry?

Oskerry climbs a steep hill above the Mere, and its streets are stairs.
Seen from the water the town is a slope of roofs with twenty stairs running up through it.

The lowest houses stand on posts, the highest have gardens.
Goods go up by mule and come down by rope.
Between the stairs run terraces, just wide enough for a handcart.
The stone is grey and the doors are not.
There is no wheel bigger than a barrow's in the whole town.
Every landing has a bench, and every bench has its regulars.
In wet weather the steps turn into waterfalls and the children are delighted.
At dusk the lamps are lit from the bottom upward.
        """,
        """
What do people eat in Oskerry?
What is a typical meal in Oskerry?
Is the food in Oskerry any good?
Tell me about cooking in Oskerry.

Eels, barley and plums make up most of it, in every combination.
Most households eat from the Mere and from the terraces, so fish and fruit.

The morning meal is barley porridge with honey.
At noon people buy soup at a landing and drink it standing.
Bread is baked in shared ovens, and each family marks its own loaves.
Smoked eel with sour plums is better than it sounds.
Nobody cooks on the Loose Day, so everyone eats cold pie.
In Frost there are dried pears, and by the end of it people are tired of them.
Guests are given the crust, which is considered the best part.
        """,
        """
How does someone become a master in a guild?
What is an apprenticeship in Oskerry like?
How long does it take to learn a trade in Oskerry?
Explain how young people learn a trade.

An apprentice stays four years with one master and one year with another.
Learning a trade takes about five years, the last of them away from home.

The first year is mostly sweeping, and it is meant to be.
At the end there is a test piece, which is shown without a name on it.
Three judges look at it, one of whom must be from another guild.
Those who fail may try again after the next Thaw.
Those who pass put the trade before their name and buy supper for the workshop.
Pay is small but the food is regular.
Some leave and try a second trade, and no one thinks less of them.
        """,
        """
How does mail reach people in Oskerry?
How do letters travel in Oskerry?
Who carries the post?
Describe the work of a porter in Oskerry.

Letters come by ferry to the Gull quarter and go up the stairs on the backs of porters.
The post is carried by porters, who are paid by the step.

Each porter has one stair and knows every door on it.
The rate doubles above the third landing.
Heavy parcels wait for a mule.
Lake-side doors are served on the way up and hill-side doors on the way down.
A porter may read a postcard but not discuss it.
In fog they ring a hand bell, so that nobody is knocked over.
An answer can be had by evening if it is short.
        """,
        """
What happens on the Loose Day?
How do people in Oskerry celebrate the end of the year?
What is the Loose Day, and why does it have no date?
Tell me about the most important holiday in Oskerry.

The Loose Day falls between the end of Frost and the start of Thaw and belongs to neither.
It is the one day of the year that is not counted.

No contract signed on it is valid, which has spoiled several weddings.
Debts can be neither collected nor paid.
People visit those they have quarrelled with and talk about other things.
The locks are left to the apprentices, under a watchful eye.
Shops are shut, but their doors must stay open.
Someone born on it may choose a birthday.
In the evening every lamp is put out for as long as it takes to sing one song.
        """,
        """
How do beekeepers work in Oskerry?
Why is honey so important in Oskerry?
What is special about bees in Oskerry?
Tell me something about the beekeepers.

Bees are kept on the Orchard terraces and moved downhill when the reeds flower.
Honey was the first thing the town sold to strangers, and it still pays for the lamps.

Hives are carried at night, on poles, by people who do not talk.
Light honey is from plum, dark honey from thistle.
The wax goes to the candle makers, who complain about the price.
A swarm belongs to whoever can sit beside it until evening.
Nobody paints a hive blue, because the bees are said to prefer the sky.
In Slate the hives are wrapped in old sails.
A good keeper loses one hive in ten over the winter.
        """,
        """
What should I pack for a visit to Oskerry?
I will spend a week in Oskerry. Any advice?
What mistakes do visitors make in Oskerry?
How can a guest in Oskerry behave well?

Bring good shoes and little else, because everything has to be carried up.
The main thing is to walk slowly and keep to the right on the steps.

Learn the three greetings before you get off the ferry.
Do not sit on a bench that has a cushion on it, as it is somebody's.
Write down your address, largest part first, in case you need to be sent home.
Carry small copper, since nobody can change silver before noon.
If the gauge shows ten spans, have some soup and wait.
A sketch of a house is polite, staring through its window is not.
Take a gift of salt to any house you enter.
Never offer to carry a porter's load.
        """,
        """
How do pilots find their way on the Mere?
Why does every boat in Oskerry need a pilot?
What does a pilot do?
Is the Mere dangerous?

The Mere is shallow, and its channels shift after every storm.
A pilot knows where the bottom was yesterday, which is the best anyone can do.

They read the colour of the water and the way the reeds lean.
At night two beacons in line mark the safe course.
Soundings are taken with a pole of twelve spans.
A pilot who runs aground pays for the crew's supper.
Charts exist, but they are mostly used to wrap fish.
In fog the boats keep apart by singing, each crew with its own tune.
Most accidents happen within sight of home.
        """,
        """
How is pottery made in Oskerry?
Why is the Lamp quarter known for its pots?
What makes Oskerry pottery different?
Tell me about the kilns.

The clay comes from the bottom of the Mere and fires to a dark grey.
Potters in the Lamp quarter share three long kilns built up the slope.

The fire is lit at the bottom, and the heat climbs as everyone else does.
A firing takes two nights, with someone awake at every door.
Each potter marks the foot of a bowl with a thumb.
Glaze is made of ash and ground shell.
Cracked pieces are used in the drains, where they last for ever.
The kilns rest in Thaw, when the wood is wet.
A bowl that rings is sold, one that clacks is kept for the cat.
        """,
        """
How are disputes settled in Oskerry?
What happens when neighbours quarrel in Oskerry?
Is there a court in Oskerry?
How does the town deal with people who break the rules?

Small quarrels are settled on a bench, in front of whoever happens to be sitting there.
There is no court, but there is a bench on every landing.

Both sides speak once, and then each must repeat what the other said.
It is surprising how often that is the end of it.
If not, the warden of a House decides, and the loser may choose the fine from three.
Theft is paid for with work, by the day.
For serious things the council meets with the doors open.
The worst penalty is to be left out of the roll for a year.
Nobody may judge on an empty stomach.
        """,
        """
What is the old tongue of Oskerry?
Does anyone still speak the old tongue?
How do words change in the old tongue?
Explain how the old tongue makes a plural.

The old tongue lives on in songs, on stones and in the kitchen.
Few people speak it, but everyone knows some words.

Many of a thing takes the ending ren, and a small one takes il.
A jar is pelm, so many jars are pelm-ren and a small jar is pelm-il.
The ending is joined with a hyphen, whatever the word.
It has nineteen words for mud and none for hurry.
Grandparents use it when the children should not understand, so the children learn it.
The little word ba, which means come from, is left over from it.
There is no known swear word in it, which scholars doubt.
        """,
        """
What is the weather like in Oskerry?
How do people in Oskerry cope with fog?
When is the best time to visit Oskerry?
Describe a year's weather by the Mere.

It is a wet place with short, bright summers, and the Mere keeps the worst of the cold away.
The weather comes over the Narrows and can be seen an hour before it arrives.

Thaw is mud, and Seed is wind.
In Brim the lake lies level with the quays and the evenings are warm.
Ember is dry, which suits the kilns.
Fog is common in Slate and lasts until somebody complains about it.
The lake has frozen over four times, and each time a song was written.
Most people own a good coat and distrust umbrellas.
Rain is measured in bowls, and the record is nineteen.
        """,
        """
What kind of music is played in Oskerry?
Do people in Oskerry sing?
What does the music of Oskerry sound like?
Tell me about songs in Oskerry.

Most music in Oskerry is made for walking uphill, so it is slow and has long phrases.
Singing is a working skill here, since crews use it to find each other in fog.

Every boat has its tune, and it is rude to hum another boat's.
The usual instruments are a clay whistle and a box with two strings.
Weavers sing in time with the loom and bakers do not sing at all.
A choir stands on five landings, and nobody hears the whole of it.
The eel song has forty verses, of which the last is lost.
Children are taught the low part first.
Applause is given by tapping on the step.
        """,
        """
What is money like in Oskerry?
How do people pay for things in Oskerry?
Explain prices and payment in Oskerry.
Do I need to bring coins to Oskerry?

Small things are paid for in copper and large ones in silver, and favours are kept in a notebook.
The everyday coin is a thin copper one with a hole in it, worn on a string.

Twelve coppers buy a bowl of soup, with bread.
Silver is seldom seen before noon, because the changers sleep late.
Prices are chalked on the step in Oskerry count.
Bargaining is allowed at the landing but not above it.
A debt is cut into a stick, and each side keeps a half.
Nobody charges interest to a neighbour on the same stair.
Porters are paid by the step and guides by the question.
        """,
        """
What are the benches of Oskerry for?
Why are there so many benches in Oskerry?
Why do people in Oskerry spend so much time on benches?
What is a bench right?

There is a bench on every landing, and much of the town's business is done there.
The benches began as resting places for porters and became something like a parliament.

A place on one is earned by sitting there every day for a year.
News goes up the hill from bench to bench, faster than a boy can run.
A cushion means that the owner will be back.
Strangers may use the end nearest the wall.
Marriages have been arranged on the third bench and called off on the fourth.
The wood is oiled every Seed by whoever lost the last argument.
In rain people sit there anyway, under a piece of sail.
        """,
        """
How are mules used in Oskerry?
Why are there no carts on the stairs?
How do heavy goods get up the hill?
What should one know about mules?

Whatever is heavier than a child goes up on a mule.
Carts are useless on steps, so the hill belongs to the mules.

They know about four hundred steps each and do not care to learn more.
A mule has the right of way, and so does whoever is arguing with it.
Loads come down on ropes instead, which is quicker and wakes people up.
Each has a bell with a tone of its own.
They rest at noon, wherever they happen to be standing.
Old ones retire to the Orchard terraces and grow fat on windfalls.
The rate for a mule is twice that for a porter, since it cannot be talked to.
        """,
        """
What games do children play in Oskerry?
How is a child's day in Oskerry?
What do children learn at school in Oskerry?
Tell me about growing up in Oskerry.

School takes the mornings, and in the afternoons the stairs belong to the children.
Children learn to count on the steps and to swim off the ferry landing.

The favourite game is called tide, and the lowest step is always the sea.
Reading is taught with old petitions, which are full of useful words.
At ten each child spends a week with each of the Houses.
Homework was tried once and given up.
They may ring the tide bell on their birthday.
Every class looks after one lamp, one bench and one very old person.
Nobody is called by a guild name before the age of sixteen.
        """,
        """
How is rope made in Oskerry?
Why is rope so important in Oskerry?
What happens at the ropewalk?
Tell me about the rope makers.

The ropewalk is the only level street in town, and it is as long as the longest rope.
Rope holds Oskerry together: boats, bells, loads and quite a few walls hang on it.

Flax comes down from the terraces and hemp arrives by ferry.
The walker goes backward all day and is said to know only the past.
A good rope is tested by hanging the maker's apprentice from it, over water.
Coloured threads show how old it is.
Worn rope is picked apart and stuffed into the seams of boats.
Left-handed rope is made to order and costs more.
The smell of tar can be noticed as far up as the second landing.
        """,
        """
What is sold at the landing market?
When is market day in Oskerry?
Describe the market of Oskerry.
Is the market in Oskerry worth a visit?

Every fifth day the Gull landing fills with stalls, some of them still afloat.
The market starts with the morning tide and ends with the next one.

Fish is sold from the boats, and everything else from the steps.
The best places are low, cheap and sometimes under water.
Pots from the Lamp quarter are struck with a spoon so that buyers can hear them.
There is a stall that sells nothing but keys without locks.
Honey is tasted from the back of the hand.
The clerk of weights walks about with a stone in each pocket.
What is left over at the end goes to the night shelter.
        """,
    )
)

# --- Prose: brainstorming. Groups: questions, ideas ---------------------------------------------

IDEAS = tuple(
    groups(block)
    for block in (
        """
Give me {count} ideas for a stall at the landing market.
What could {name} sell at the {stair} Stair market? Name {count} things.
Brainstorm {count} goods for a small market stall in Oskerry.
{name} the {trade} has a free stall for a day. Suggest {count} uses for it.
I need {count} suggestions for things to sell to ferry passengers.

hot barley soup in cups that have to be brought back
paper maps of the stairs with the benches marked
honey cakes cut small enough to eat on the way up
walking sticks with a copper tip for wet steps
repairs to sandals while the owner waits
a bell for each child, so that it can be found again
dried plums on a string, sold by the span
used rope, sorted by how far it can be trusted
letters written for people who would rather talk
lamp wicks soaked overnight in good oil
smoked eel wrapped in yesterday's tide table
clay whistles in the voices of six birds
a chair, rented by the quarter of an hour
socks knitted by a neighbour with strong opinions
        """,
        """
How could the {quarter} quarter celebrate the opening of its new {work}? Give {count} ideas.
Suggest {count} events for a festival on {stair} Stair.
Think of {count} things to do on the Loose Day.
We are planning a street party in {quarter}. List {count} ideas.
Name {count} amusements for a feast in Oskerry.

a race up the stair with a full bowl of soup
a choir placed on five landings, one voice to each
a kite contest from the highest terrace
stories told by pilots, with a fine for every true one
a long table laid down the middle of the steps
lanterns floated on the Mere, with a net downstream
a prize for the worst hat that was made by hand
a swap of cuttings between all the gardens
an hour in which only the old tongue may be spoken
a mule show, judged by children
dancing on the ferry while it is tied up
a play about the First Lock, with real water
bread baked in the shape of each House's sign
a quiet corner with cushions for those who dislike feasts
        """,
        """
The steps of {stair} Stair are slippery in winter. Name {count} things the House of Stone could try.
List {count} ways to make a steep stair safer.
People keep falling on {stair} Stair. What could be done? Give {count} ideas.
Brainstorm {count} improvements to the stairs of the {quarter} quarter.
Suggest {count} measures for old people who climb {stair} Stair.

scatter kiln ash on the treads before nightfall
cut grooves across each step so that the water runs off
stretch a rope rail at two heights
light a lamp at every turn instead of every third one
paint the edge of the top and the bottom step white
put a bench where people usually stop to pretend to look at the view
send mules round by the terraces on icy mornings
clear the side gutters at the end of every month
replace the three worst steps rather than patching all of them
lend out shoe chains at the ferry house
plant a low hedge on the outer side
ask the porters, who know every loose slab
close the shaded flight during Frost
teach children to walk down backward, as pilots do
        """,
        """
What could a {trade} give to an apprentice who has passed the test? Give {count} ideas.
List {count} presents for a friend who moves to {stair} Stair.
Suggest {count} gifts for {name}, who is leaving the {quarter} quarter.
{name} has turned seventy. Name {count} presents from the neighbours.
Think of {count} small gifts that suit somebody in Oskerry.

a jar of thistle honey with the year on the lid
a door plate with the number of the new house
a cup that has been mended well
a bag of salt, as is proper for a new home
an evening of help with whatever is heaviest
a cushion for their favourite bench
a song with their name in it, sung once
a cutting from the old garden in a clay pot
a good knife, and a copper coin to pay for it
a blanket woven from the ends of other blankets
a whistle that the dog will obey
the key to a neighbour's bath house
a drawing of the view they will miss
ten ferry tokens on a ribbon
        """,
        """
Give {count} names for a new ferry.
The pilots want to name a boat. Suggest {count} names and say why.
Brainstorm {count} names for the boat of {name} the {trade}.
What might one call a small ferry in the {quarter} quarter? List {count} names.
Think up {count} boat names with a short reason for each.

Patient Heron, since it waits and then moves quickly
Second Lamp, after the light that follows the beacon
Honest Kettle, because the galley takes up half the deck
Late Answer, in memory of the old timetable
Grey Promise, for the colour of the Mere in Seed
Quiet Widow, who once paid for the landing
Long Morning, as the first crossing feels
Copper Sister, for her plated keel
Barley Moon, because the harvest crews will ride in her
Lucky Splinter, built from what the storm left
Upper Hand, which would annoy the other crew
Plum Stone, small and hard to sink
Wet Sleeve, as every pilot will understand
Third Bench, where the best talk is
        """,
        """
What can a class of children learn from the locks? Give {count} ideas for lessons.
Suggest {count} activities for the school on {stair} Stair.
A teacher in the {quarter} quarter needs {count} ideas for a rainy day.
List {count} ways to teach Oskerry count to small children.
Brainstorm {count} school projects about the town.

count the steps to the next landing in tel and ones
draw the gauge at three times of the day and compare
write a letter to the child who lived here a hundred years ago
make a map in which every name starts with its kind
weigh a wet rope and a dry one
ask a grandparent for one word in the old tongue
build a lock from clay and see where it leaks
sort a basket of pebbles into orr and tel
act out a petition, with four children as the Houses
follow one drop of rain from the top terrace to the Mere
date every page the proper way for a week
find five doors on the lake side and read their numbers
interview a porter while carrying something
invent a greeting for the middle of the night
        """,
        """
Why might somebody move to the {quarter} quarter? Give {count} reasons.
List {count} good reasons to live on {stair} Stair.
Name {count} reasons for becoming a {trade}.
Think of {count} things that {name} may like about the life of a {trade}.
What are {count} pleasures of working with your hands in Oskerry?

you can see at dusk what you did during the day
the neighbours bring soup when you are ill
the work stops when the light does
there is always somebody who has solved it before
the smell of the place stays in your coat, in a good way
nobody asks you to hurry after the noon bell
your name tells strangers how you can help
apprentices laugh at your jokes for at least a year
mistakes can be eaten, burnt or used as drains
the guild pays for your spectacles
you learn to hear when something is wrong
there is a seat for you at the long table
the tools are handed down already worn to the hand
the tide gives you two breaks that no master can refuse
        """,
        """
The lamp oil is running short. Suggest {count} ways to save some.
How can a household in Oskerry spend less on light and fuel? List {count} ideas.
Name {count} ways for the {quarter} quarter to get through a cold Frost.
{name} wants to use less firewood. Think of {count} suggestions.
Give {count} tips for keeping a stone house warm.

hang a blanket behind the door that faces the Mere
cook every second day and eat cold in between
share one lamp between two windows
bake in the common oven on the day of the big firing
whitewash the wall opposite the lamp
stuff the shutters with reed before the wind turns
go to bed earlier and get up with the ferry
heat stones on the stove and take them along to the bench
trim the wicks each evening, because a long one only smokes
bring the hens into the kitchen for the coldest week
sit with the neighbours on alternate nights
dry the wood for two summers instead of one
put a lid on every pot, however short the boil
move the loom away from the outer wall
        """,
        """
Give {count} ideas for a story that is set in Oskerry.
{name} wants to write a song about the {quarter} quarter. Suggest {count} subjects.
Brainstorm {count} plots in which a {trade} is the hero.
What could a play about {stair} Stair be about? List {count} ideas.
I am stuck with a tale about the Mere. Name {count} starting points.

a bell that rings although its rope has been stolen
two families who share a well and have not spoken in years
a letter addressed in the wrong order that goes on a long journey
a lock keeper who writes more than one word in the log
the child who was born on the Loose Day and cannot decide on a birthday
a founder who does not want a bridge named after her
a mule that refuses one step and is proved right
the night on which every lamp on one stair went out
an apprentice who hides a mistake in a wall
the last person who can sing the eel song
a pilot who is afraid of shallow water
a map with one house too many
a swarm that settles on the warden's hat
the loser of a contest who is given the better prize
        """,
    )
)
IDEA_INTRO = lines("""
Here are {count} ideas:
[Some|A few] possibilities:
One could try the following.
These come to mind:
""")

# --- Prose: summarization. Groups: stages of a report (then, last, the summary) ---------------------

ASK_SUMMARY = lines("""
Summarise this report in one or two sentences.
Give a short summary of the text.
What happened? Keep it brief.
Shorten this for the notice board.
Sum up the passage.
Write a two-line summary for the council.
What is the gist of this account?
Condense the report [below|for a busy warden].
Tell me the main points of this text.
Put this in a nutshell.
""")
REPORTS = tuple(
    groups(block)
    for block in (
        """
In the night of {date} the lower lock by {stair} Stair gave way.
Shortly before dawn on {date} a gate of the {stair} lock tore off its hinge.
A hinge at the {stair} lock broke on {date}, with the tide still rising.

{name}, who lives next to it, heard the noise and rang the tide bell until the keeper came.
The first to notice was {name}, a {trade} on the way to work, who ran for the keeper.
{name} the {trade} saw the water on the steps and woke the whole terrace.

Within an hour {house} people were passing sandbags down the stair, some of them still in nightshirts. Two cellars filled up, and a pig was carried to the roof of the bath house.
The neighbours closed the gap with doors, a table and the sail of the {boat}. Several cellars were flooded, but the houses stood.
Everybody who owned a bucket formed a line. The water reached the third step and then, with the turn of the tide, stopped.

The House of Water has promised a new hinge by {month} and will pay for the doors.
The warden of Water came at noon, apologised in public and ordered a copper hinge.
The keeper had asked for a new hinge twice. It has now been ordered.

A gate of the {stair} lock broke; {name} raised the alarm, neighbours held the water back, and a new hinge is on order.
Thanks to {name} and quick neighbours, a broken gate at the {stair} lock did little harm. The House of Water will replace the hinge.
When the {stair} lock failed, {name} gave the alarm and the people of the stair kept out the tide. Repairs have been promised.
        """,
        """
The council met on {date} to decide whether {stair} Stair should have lamps all the way up.
On {date} the council heard the proposal to light the upper half of {stair} Stair.
Should {stair} Stair be lit to the top? That was the question before the council on {date}.

{name} the {trade} spoke for it and described, in some detail, three falls and a broken jar.
The case for it was made by {name}, who had counted the accidents of two winters.
{name}, a {trade}, argued that people who pay for lamps should be able to see them.

Against it stood {other}, who feared for the sleep of the upper terrace and for the price of oil. A letter from the bees was read out and ruled out of order.
{other} replied that darkness had never cost anything. There was applause from the back and a call for shorter speeches.
{other} thought that one lamp at the turn would do, and that the stars were being forgotten. The debate lasted through two pots of tea.

In the end it was agreed to hang {few} lamps for a year and to count the falls again.
A vote was taken, and {few} lamps will be hung on trial until next {month}.
By a narrow vote the council allowed {few} lamps, to be put out at second bell.

After debate between {name} and {other}, the council agreed to try {few} lamps on {stair} Stair.
The council will hang {few} lamps on the upper {stair} Stair as a trial; {name} was in favour and {other} against.
{name} won a partial victory: despite the doubts of {other}, {stair} Stair gets {few} lamps on trial.
        """,
        """
The {boat} had been missing for {few} days when a boy saw its mast in the reeds.
For {few} days nobody knew where the {boat} was.
When the {boat} did not come back to the {quarter} landing, people feared the worst.

It had left with {said} {things} and a crew of three, under {name}.
{name} was at the helm, with two hands and a load of {said} {things}.
On board were {name}, two apprentices and {said} {things}.

Fog had come down off the Narrows, and the boat slid onto a mud bank so gently that no one woke. The tide that should have lifted it was a weak one, and so was the next.
A storm had moved the channel overnight. The boat followed the old one and sat down in the mud, upright and perfectly comfortable.
The rudder had caught in weed, and the wind did the rest. They sang every evening in the hope of being heard, but the wind was wrong.

{other} towed them home with a ferry, and the crew walked off under their own strength, a little tired of the cargo.
A ferry under {other} pulled them free. Nobody was hurt, though part of the load had been traded to the gulls for peace.
They were found by {other}, who brought soup and a long rope, in that order.

The {boat}, stuck in the mud for {few} days under {name}, was found and freed by {other}. Nobody was hurt.
After {few} days aground, {name} and the crew of the {boat} were brought home safely by {other}.
{other} rescued the {boat}, which had run aground with {name} and a load of {things}.
        """,
        """
{child}, an apprentice in the {quarter} quarter, presented a test piece on {date}.
The test on {date} drew a crowd, because {child} had been talked about all winter.
On {date} it was the turn of {child} to be examined by the guild.

The piece was {entry}, and it took the judges some time to find words.
What stood on the table was {entry}.
For the test {child} had made {entry}, in secret and mostly at night.

The master, {name}, had advised against it and now looked at the ceiling. One judge admired the joints, another asked what it was for.
{name}, who had trained the apprentice for four years, was not allowed to speak and visibly suffered. The youngest judge turned it over twice and smiled.
The judges tried to break it and could not. {name}, the master, was seen to count the nails under the table.

The vote was unanimous, and {child} bought supper for the whole workshop.
They passed it with two votes against one, and asked for a plainer piece next time.
It was accepted on the condition that it is shown at the next market.

{child} passed the guild's test with {entry}, to the relief of the master, {name}.
With {entry}, {child} convinced the judges and is no longer an apprentice.
The guild examined {child}, a pupil of {name}, and accepted the test piece: {entry}.
        """,
        """
Work on {place_name} began in {month} and was meant to take one summer.
When {name} offered to pay for a {kind}, nobody thought that it would take {few} years.
{place_name} is finished, {few} years after the first stake was driven in.

The ground turned out to be mud over more mud, and the first footings vanished in a night.
The first winter broke the scaffold, and the second carried off the mortar.
Money ran out twice, and once the plans were eaten by a goat.

{other}, who led the crew, had the piles driven three times as deep and sang while it was done. From then on things went well, apart from the matter of the paint.
It was {other} who had the idea to build from both ends and meet where the rock was. The two halves missed each other by the width of a thumb.
{other} took over as foreman, halved the drawings and doubled the tea. The masons grumbled and then worked faster.

It was opened on {date}, with a goat going first.
On {date} the ropes were taken away, and it stood.
The opening on {date} was short, because it rained, and cheerful, because it held.

After {few} hard years and under the direction of {other}, the {kind} founded by {name} was opened on {date}.
{place_name}, paid for by {name} and built by {other}, has been completed after many setbacks.
The {kind} took {few} years instead of a summer, but {other} finished it, and it opened on {date}.
        """,
        """
Since {month} the bees of the {quarter} quarter had been leaving their hives.
This year's honey from {quarter} was so scarce that the guild asked {name} to find out why.
In {month} the beekeepers noticed that every third hive on the terraces was empty.

{name} sat among the hives for {few} days with a notebook and a hat.
{name} put flour on the bees and followed them down the hill, {few} days in a row.
For {few} days {name} did nothing but watch, which the neighbours found provoking.

The cause was the tar works of {other} on {stair} Stair, whose smoke drifted over the terraces at noon. The bees had moved to the bell tower, where the air was better.
It turned out that {other} had planted mint along {stair} Stair, and that the bees preferred it to everything they had been given. They had settled in a chimney close by.
They had gone to the reeds, because the plum trees flowered late this year. Most of them now lived under the roof of {other}, who had been too polite to mention it.

{other} agreed to a change, the swarms were carried back at night, and the honey is being shared.
An arrangement was made with {other}: the bees stay until Slate, and the rent is paid in wax.
The guild has asked {other} for help, and the hives are being moved instead of the bees.

{name} found out why the bees of {quarter} had left, and an agreement was reached with {other}.
The hives of {quarter} stood empty because the bees had found a better place; {name} discovered it and {other} is helping.
After {few} days of watching, {name} traced the missing bees. With the consent of {other} the matter is settled.
        """,
    )
)

# --- Prose: creative_writing. Groups: requests, then the stages of the piece ------------------------

TALES = tuple(
    groups(block)
    for block in (
        """
Write a short story about a {trade} [called|named] {name} and a missing bell.
Tell a story in which {name} from {stair} Stair solves a small mystery.
Write a tale about a bell that will not ring.

The bell of {stair} Stair had rung every evening for ninety years, and then one evening it did not.
On a still evening in {month}, {name} the {trade} noticed that something was missing, and it took a moment to see that it was the bell.
Nobody on {stair} Stair owned a clock, so when the bell stayed silent supper did not begin.

{name} climbed the tower with a lantern. The rope hung where it should, and the bell hung above it, but the clapper was gone.
People blamed the damp, the apprentices and finally each other. {name} went up to look.
"It will ring when it is ready," said {other}, who rang it. {name} did not think that bells worked that way.

In the dust lay a single feather and a trail of crumbs. They led out through the louvres to the roof, where a pair of herons had built a nest of the heaviest things they could find.
Behind the frame sat a child of seven, {child} ba {mother}, with the clapper in her lap. Her brother was ill, she said, and he had only just fallen asleep.
The clapper had been wrapped in a scarf, with great care, by somebody who could knit. {name} knew the pattern. It was the pattern of {other}.

{name} thought about it, sat down and waited until the moon was over the Mere.
For a while nothing was said. Down in the street somebody laughed and was told to be quiet.
{name} could have shouted and did not. There are things that a tower is good for besides noise.

The next evening the bell rang again, a little late, and a little more softly than before. Most people preferred it.
Supper was late that week on all of {stair} Stair. When people asked, {name} spoke at length about the damp.
They still tell the story in the {quarter} quarter, each time with a different thief. {name} never corrects them.
        """,
        """
Write a story about a letter that was addressed the wrong way round.
Tell a short tale about {name}, a porter on {stair} Stair.
Write a short story set in the {quarter} quarter in which a letter arrives late.

The letter was for number {house}, but it said so first, and after that nothing went right.
It was an ordinary letter, apart from its address, which ran from the small to the large.
{name} had carried mail up {stair} Stair for {few} years and had never lost a letter until this one.

There are five stairs in Oskerry with a house {house} that has a green door. {name} tried each of them, and was given soup at three.
{name} knocked at every house of that number from the landing to the top terrace. At each one somebody had been hoping for a letter.
The clerk at the ferry house turned it over and said that it might take a while. He put it in the drawer for difficult things.

By then it had rained on the envelope, and a child had drawn a boat on the back. It had begun to look like something that belonged to the town.
Days went by. People started to ask after it, as one asks after a cousin who is travelling.
It was passed around at supper and held against the lamp. Everybody had a theory.

At the last door lived {other}, who read the address aloud, twice. "That is my sister's hand," said {other}. "She never could begin at the beginning."
In the end it was {other}, up in the last house before the orchard, who knew the writing.
Then {name} met {other} on a bench and showed the envelope, out of habit. "Oh," said {other}. "That one is for me."

Inside there were four words: come before the frost.
It held no news at all, only a pressed flower and the drawing of a bridge.
The paper inside was blank on one side, and on the other it said that all was forgiven, including the goose.

{other} packed the same evening. {name} carried the bag down to the ferry and for once was not paid by the step.
Since then {name} looks twice at every address that starts with a number, and goes a little faster.
The answer was written that night, with the quarter first, then the stair, then the house. It arrived the next day.
        """,
        """
Write a story about a contest between a {trade} and the tide.
Tell a story about {name}, who made a bet on the {stair} lock.
Write a small fable from Oskerry about pride.

{name} was the best {trade} in the {quarter} quarter and was the first to say so.
There was once a {trade} called {name} who had never been late, and who had begun to think that the tide was.
It began on the third bench of {stair} Stair, where most foolish things begin.

"I can finish {entry} between one high water and the next," said {name}. {other} put down a silver thimble against it.
{other}, who kept the lock, said that the water waited for nobody. {name} said that it had never been asked properly. So they made a bet of it: {entry}, begun and finished within one tide.
The bet between {name} and {other} was simple: a piece of work, begun when the gauge fell below ten spans and finished before it rose again.

All morning the work went like a song. A crowd came, and somebody sold pears.
{name} worked without looking up, which was a pity, because the gauge was worth looking at.
At noon half of it was done and {name} had time to make a speech. That was the mistake.

When the keeper called out ten spans, there was one knot, one nail or one stitch still to do. Accounts differ.
The gates shut with the sound that they always make. {name} stood there holding the last piece and said nothing, for the first time in years.
The tide came in exactly as fast as it had the day before.

{other} gave back the thimble, since it is bad luck to win against a friend. They drink tea on the third bench now and make no bets before noon.
{name} finished the thing anyway and gave it to the lock keeper. It hangs there still, under the gauge, as a kind of mark.
From then on {name} was a slower {trade} and, most people thought, a better one.
        """,
        """
Write a letter from {name} in Oskerry to a friend far away.
Write a letter home from a new apprentice in the {quarter} quarter.
Compose a letter in which {name} describes the first month on {stair} Stair.

Clear water, {other}. You will read this at breakfast, I know, so I greet you for the morning.
Still lamp, {other}. I write late, and you will read late, if I know you.
Dear {other}, I have been here for {few} weeks now and my legs have stopped complaining.

I live at {address}, which means a good deal of climbing and a view of everything.
My room is on {stair} Stair, above a {trade} who snores in time with the bell.
They have put me on {stair} Stair. From my window I can see the ferry, two locks and somebody's washing.

The work is mostly sweeping so far. I have learned to tell three kinds of ash apart, and I am told that there are nine.
I counted the steps to my door: {said}. I will not convert that for you, you must learn it as I did.
People here ask a question and then wait for the answer. It is unsettling, but I am getting used to it.

On market day a mule sat down on the landing and the whole town went round it without a word. I thought of you.
Yesterday the lock was shut all afternoon and I ate soup with {child} and an old pilot who would not believe that I cannot swim.
They held the feast for the new {work} last week. I was given a lantern and told to look as if I knew the way.

Write to me soon, with the quarter first, or it will take until {month}. Yours, {name}.
Send salt, if you can, and news, even if it is dull. Yours on the stairs, {name}.
I am well, and I am not coming home before Thaw. Your friend, {name}.
        """,
        """
Write a poem about the Mere in {month}.
Write a few lines of verse about {stair} Stair at night.
Compose a short poem that {name} the {trade} might have written.
Write a quiet poem about Oskerry.

The water goes out and takes the sky along.
All night the stairs have counted down to the lake.
In {month} the Mere is the colour of a spoon.
Somebody has left a lamp on the ninth step.

A heron holds one reed's worth of silence.
The ferry comes home with its pockets full of fog.
Under the bridge the dark is being mended.
Smoke climbs as we do, resting at the turns.
The bell says a number and then thinks better of it.

{name} shuts the door, and the door shuts out the hill.
I know the place of each loose stone by its voice.
Barley and tar and rain: I could find my way by these.
Nobody speaks. The steps are tired of feet.
A child calls out the old word for a bird.

What we have built leans slightly toward evening.
Ten spans, says the gauge, and the gates close like hands.
Give me one more light to carry as far as the landing.
The honey is in, and the bees have gone to their winter.

Tomorrow the tide will bring back what it borrowed.
Sleep, you twenty stairs. We will need you early.
And the lake, which has heard all this, says nothing.
Still lamp, I say, and something says it back.
        """,
        """
Write a story about an apprentice who makes a mistake.
Tell a tale about {name}, who was sent to mend a wall on {stair} Stair.
Write a short story about a secret inside a wall.

In the second year of the apprenticeship, {name} set a stone upside down.
The wall on {stair} Stair was {name}'s first, and it was straight except for one place.
{name} noticed the mistake when the mortar had already set and the master was on the way up.

It was only a small stone, with a carved bird that now flew on its back. A bucket stood in front of it, and {name} did not move the bucket.
No one else would ever see it, so {name} said nothing, and went on saying nothing for {few} years.
{name} covered it with a handful of moss and hoped for damp weather.

The moss grew well. The bad conscience did too.
But children see everything. Soon they had a name for the place, and a rule: touch the falling bird before a test.
Then came the great frost, and walls burst all along the terrace. This one held.

When {name} finally went to confess, old {other} laughed until the tea went cold. "Come along," said {other}, and reached for a coat.
One day the master, {other}, lifted the moss with a thumb and looked for a long time. "Mine is on the bell tower," said {other}. "Facing in."
{name} told {other} on the last day of the apprenticeship, quickly, as one takes out a splinter. {other} only nodded.

They walked over together, and there, at knee height, was a carved fish, swimming up to the sky.
It appears that every mason has one. They are not on any map, and {name} has promised not to draw it.
The stone is still there. On {stair} Stair they say that it holds up the rest.
        """,
    )
)
