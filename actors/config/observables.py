"""What a run counts in its completions beside their rewards."""

from typing import Annotated

from pydantic import Field

from actors.config.base import Section

Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]
Term = Annotated[str, Field(pattern=r"^\w(.*\w)?$", max_length=40)]

#: By which a response shows that it looks back at what it wrote. English: the ten of DeepSeek-R1 (Nature 645, 2025,
#: extended data figure 1), and phrases of its transcripts; the others say the same.
REFLECTION_WORDS: dict[Language, list[Term]] = {
    "en": [
        *("wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check"),
        *("re-check", "recheck", "double-check", "re-evaluate", "reconsider", "hold on", "on second thought"),
    ],
    "zh": ["等等", "等一下", "错误", "错了", "但是", "不过", "然而", "检查", "验证", "重新", "再想想", "再看看"],
    "ja": ["待って", "間違", "しかし", "確認", "検証", "もう一度", "再考"],
    "ko": ["잠깐", "실수", "그러나", "하지만", "확인", "검증", "다시"],
    "de": ["warte", "fehler", "jedoch", "aber", "falsch", "überprüfe", "überprüfen", "prüfe", "prüfen", "nochmal"],
    "fr": ["attends", "attendez", "erreur", "cependant", "mais", "faux", "vérifie", "vérifions", "revérifions"],
    "es": ["espera", "error", "equivocación", "sin embargo", "pero", "incorrecto", "verifica", "comprobemos"],
    "it": ["aspetta", "errore", "tuttavia", "però", "sbagliato", "verifica", "verifichiamo", "ricontrolliamo"],
    "pt": ["espera", "espere", "erro", "contudo", "entretanto", "mas", "errado", "verifique", "verificar"],
    "ru": ["подожди", "подождите", "стоп", "ошибка", "однако", "неверно", "проверим", "проверить", "перепроверим"],
}


class ObservablesConfig(Section):
    """What is counted in every completion beside its reward, and rewards nothing."""

    reflection_words: dict[Language, Annotated[list[Term], Field(max_length=100)]] = Field(
        default_factory=dict,
        max_length=50,
        description="words and phrases that count as reflection, by ISO 639-1 code, in place of the usual ones of that "
        "language; those of all languages count in every response, in small letters or capitals",
    )

    @property
    def words(self) -> list[str]:
        """Words of reflection of all languages."""
        return [word for listed in {**REFLECTION_WORDS, **self.reflection_words}.values() for word in listed]
