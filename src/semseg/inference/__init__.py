"""From a picture to class ids or probabilities. Engines stand behind the Backend protocol; nothing here knows HTTP."""
