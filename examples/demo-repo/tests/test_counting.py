import unittest

from wordcount import top_words, words


class Words(unittest.TestCase):
    def test_lower_case_and_apostrophes(self):
        self.assertEqual(words("Don't panic. DON'T!"), ["don't", "panic", "don't"])

    def test_no_words(self):
        self.assertEqual(words("123 -- !"), [])


class TopWords(unittest.TestCase):
    def test_most_frequent_first(self):
        self.assertEqual(top_words("b a b", 2), [("b", 2), ("a", 1)])

    def test_ties_are_alphabetical(self):
        self.assertEqual(top_words("pear fig apple", 3), [("apple", 1), ("fig", 1), ("pear", 1)])

    def test_limit(self):
        self.assertEqual(top_words("one two two three three three", 1), [("three", 3)])


if __name__ == "__main__":
    unittest.main()
