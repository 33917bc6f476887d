"""Texts for pages and for the recognition of languages, written for these tests."""

from __future__ import annotations

FORMULA = "x<sub>i</sub> = a<sub>ij</sub> y<sup>j</sup> + ∑ (b − c)² ≤ √(n + 1) · λ"

ENGLISH = (
    "The harbour lies below the town, and every morning the boats come in with the tide. Fishermen sort their catch on "
    "the quay while gulls wait on the roofs. By noon the market is over; the crates are washed and stacked for the "
    "next day.",
    "In winter the sea is often too rough, and the men repair their nets in the long sheds behind the church. They "
    "talk about the weather, prices, and the new road that was promised twenty years ago but never built.",
    "A visitor who climbs the hill will see three islands. The largest has a lighthouse; nobody has lived on the other "
    "two since the great storm, although sheep are still taken there in spring.",
    "Most of the young people leave for the city when they finish school. Some return with families of their own, open "
    "a shop or a small hotel, and discover that the mornings are as quiet as they remembered.",
)
GERMAN = (
    "Der Hafen liegt unterhalb der Stadt, und jeden Morgen kommen die Boote mit der Flut herein. Die Fischer sortieren "
    "ihren Fang am Kai, während die Möwen auf den Dächern warten. Gegen Mittag ist der Markt vorbei, und die Kisten "
    "werden gewaschen und für den nächsten Tag gestapelt. Im Winter ist die See oft zu rau.",
    "Wer den Hügel hinaufsteigt, sieht drei Inseln. Auf der größten steht ein Leuchtturm; auf den beiden anderen wohnt "
    "seit dem großen Sturm niemand mehr, obwohl im Frühling noch Schafe dorthin gebracht werden.",
)
FRENCH = (
    "Le port se trouve au-dessous de la ville, et chaque matin les bateaux rentrent avec la marée. Les pêcheurs trient "
    "leurs prises sur le quai pendant que les mouettes attendent sur les toits. À midi, le marché est terminé et les "
    "caisses sont lavées puis empilées pour le lendemain.",
    "En hiver, la mer est souvent trop forte, et les hommes réparent leurs filets derrière l'église. Ils parlent du "
    "temps, des prix et de la route promise il y a vingt ans, mais jamais construite.",
)
POLISH = (
    "Port leży poniżej miasta i każdego ranka łodzie wracają z przypływem. Rybacy sortują połów na nabrzeżu, a mewy "
    "czekają na dachach. W południe targ się kończy, skrzynie są myte i układane na następny dzień. Zimą morze bywa "
    "zbyt wzburzone, więc mężczyźni naprawiają sieci w długich szopach za kościołem.",
)
RUSSIAN = (
    "Гавань лежит ниже города, и каждое утро лодки приходят с приливом. Рыбаки разбирают улов на причале, а чайки ждут "
    "на крышах. К полудню рынок закрывается, ящики моют и складывают до следующего дня. Зимой море часто неспокойно, и "
    "мужчины чинят сети в длинных сараях за церковью.",
)
CHINESE = (
    "港口在小城的下面，每天早晨渔船随着潮水回来。渔民在码头上分拣鱼虾，海鸥在屋顶上等待。到了中午，市场已经散了，"
    "箱子洗干净以后整齐地放好，准备第二天再用。",
    "冬天海上风浪很大，男人们就在教堂后面的长屋里修补渔网。他们谈天气，谈价格，也谈那条二十年前就答应要修、却一直没有修的路。"
    "登上山坡的人可以看见三座小岛，最大的一座岛上有灯塔。",
)
HEBREW = (
    "הנמל נמצא מתחת לעיר ובכל בוקר הסירות חוזרות עם הגאות והדייגים ממיינים את הדגים "
    "על הרציף בזמן שהשחפים מחכים על הגגות"
)
CODE = """def moving_average(values, width):
    total = 0.0
    for index, value in enumerate(values):
        total += value
        if index >= width:
            total -= values[index - width]
        yield total / min(index + 1, width)

class Buffer:
    def __init__(self, size=4096):
        self.size = size
        self.items = []

    def push(self, item):
        if len(self.items) >= self.size:
            raise OverflowError("buffer is full")
        self.items.append(item)
"""
REFERENCES = (
    "[1] J. Müller, K. Wang, and S. O'Brien. Tides of the northern coast. J. Mar. Res., 12(3):145–167, 2009.",
    "[2] A. Kowalski. Fishing nets and their repair. Proc. 4th Int. Conf. Ropes, pp. 33–41, 1998. doi:10.1000/xyz123.",
    "[3] T. Nakamura and L. d'Angelo. Gulls. Cambridge Univ. Press, 2nd ed., 2015. ISBN 978-3-16-148410-0.",
    "[4] P. Svensson. URL https://example.org/harbour/index.html?id=42, accessed 3 May 2019.",
)
