"""Before there is traffic: are the servers there, and can clients use the names that they would see?"""
