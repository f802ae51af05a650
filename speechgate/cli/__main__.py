from speechgate.cli import main

main()
