"""What a text says, however it is written: Unicode forms, numbers in the digits and marks of a language, language
tags."""
