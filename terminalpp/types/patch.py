"""What a patch of ours holds besides what git's own do."""

# A patch knows no folders. An empty one that was made or removed stands in it as an empty file of this name
# inside; whoever applies the patch with our CLI gets the folder alone.
EMPTY_FOLDER = ".tpp-empty-folder"
